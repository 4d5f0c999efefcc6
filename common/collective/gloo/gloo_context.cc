#include "common/collective/gloo/gloo_context.h"

#include <vector>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "gloo/transport/context.h"
#include "gloo/transport/pair.h"

namespace pregate {
namespace {

// A pair's connect waits for five times its own timeout (transport/tcp/pair.h, waitUntil).
constexpr int kConnectTimeouts = 5;

// A rank's blob: for each other rank in order, the address that this rank listens on for it.
absl::Status CheckBlob(const std::string& blob, size_t bytes_expected, int rank) {
  if (blob.size() == bytes_expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("gloo: rank ", rank, " sent ", blob.size(),
                                                 " bytes of addresses, expected ", bytes_expected));
}

}  // namespace

absl::Status GlooContext::Connect(const std::shared_ptr<gloo::transport::Device>& device,
                                  Meeting* meeting, const std::string& rendezvous,
                                  absl::Duration timeout, std::stop_token stop) {
  const absl::Time deadline = absl::Now() + timeout;
  const auto transport = device->createContext(rank, size);
  transport->setTimeout(
      absl::ToChronoMilliseconds(std::max(timeout / kConnectTimeouts, absl::Milliseconds(1))));
  std::string blob;
  size_t address_bytes = 0;
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) continue;
    const std::vector<char> address = transport->createPair(peer)->address().bytes();
    blob.append(address.begin(), address.end());
    address_bytes = address.size();
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> blobs,
                   meeting->Meet(rendezvous, rank, size, blob, timeout, stop));
  // A pair that is closed waits for nobody: its connect returns or throws.
  const std::stop_callback on_stop(stop, [&] {
    for (int peer = 0; peer < size; ++peer) {
      if (peer != rank) transport->getPair(peer)->close();
    }
  });
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) continue;
    RETURN_IF_ERROR(CheckBlob(blobs[peer], blob.size(), peer));
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("gloo: no time left to dial rank ", peer));
    }
    const char* address = blobs[peer].data() + (rank < peer ? rank : rank - 1) * address_bytes;
    transport->getPair(peer)->connect(std::vector<char>(address, address + address_bytes));
  }
  device_ = device;
  transportContext_ = transport;
  return absl::OkStatus();
}

}  // namespace pregate
