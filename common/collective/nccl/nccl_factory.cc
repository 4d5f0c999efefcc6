#include "common/collective/nccl/nccl_factory.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/collective/exchange_check.h"
#include "common/collective/nccl/nccl_collective.h"

namespace pregate {
namespace {

// The bytes hold a socket address that NCCL dials: it comes from the scheduler, over the link that
// the cell trusts.
absl::StatusOr<ncclUniqueId> ParseId(const std::string& rendezvous) {
  const bool is_hex = std::all_of(rendezvous.begin(), rendezvous.end(), absl::ascii_isxdigit);
  if (rendezvous.size() != 2 * sizeof(ncclUniqueId::internal) || !is_hex) {
    return absl::InvalidArgumentError("nccl: the rendezvous is no ncclUniqueId in hex");
  }
  ncclUniqueId id;
  std::memcpy(id.internal, absl::HexStringToBytes(rendezvous).data(), sizeof(id.internal));
  return id;
}

class NcclFactory final : public CollectiveFactory {
 public:
  explicit NcclFactory(const NcclOptions& options) : options_(options) {}

  absl::StatusOr<std::string> MakeRendezvous() override {
    ncclUniqueId id;
    RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id), nullptr, "rendezvous"));
    return absl::BytesToHexString(absl::string_view(id.internal, sizeof(id.internal)));
  }

  absl::StatusOr<std::unique_ptr<Collective>> Join(const std::string& rendezvous, int rank,
                                                   int world_size, absl::Duration timeout,
                                                   std::stop_token stop) override {
    RETURN_IF_ERROR(CheckMembership(rank, world_size));
    ASSIGN_OR_RETURN(const ncclUniqueId id, ParseId(rendezvous));
    return NcclCollective::Join(options_, id, rank, world_size, timeout, std::move(stop));
  }

 private:
  const NcclOptions options_;
};

}  // namespace

std::unique_ptr<CollectiveFactory> MakeNcclFactory(const NcclOptions& options) {
  return std::make_unique<NcclFactory>(options);
}

}  // namespace pregate
