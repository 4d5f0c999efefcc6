#include "common/collective/gloo/gloo_factory.h"

#include "common/base/status.h"
#include "common/collective/exchange_check.h"
#include "common/collective/gloo/gloo_collective.h"
#include "common/collective/gloo/gloo_context.h"
#include "common/collective/gloo/gloo_status.h"
#include "gloo/transport/tcp/device.h"

namespace pregate {
namespace {

class GlooFactory final : public CollectiveFactory {
 public:
  GlooFactory(const GlooOptions& options, Meeting* meeting,
              std::shared_ptr<gloo::transport::Device> device)
      : options_(options), meeting_(meeting), device_(std::move(device)) {}

  absl::StatusOr<std::string> MakeRendezvous() override { return meeting_->MakeRendezvous(); }

  absl::StatusOr<std::unique_ptr<Collective>> Join(const std::string& rendezvous, int rank,
                                                   int world_size, absl::Duration timeout,
                                                   std::stop_token stop) override {
    RETURN_IF_ERROR(CheckMembership(rank, world_size));
    std::unique_ptr<GlooContext> context;
    const absl::Status joined = CatchGloo("join", [&] {
      context = std::make_unique<GlooContext>(rank, world_size);
      return context->Connect(device_, meeting_, rendezvous, timeout, stop);
    });
    if (stop.stop_requested()) return absl::AbortedError("gloo: join: stopped here");
    RETURN_IF_ERROR(joined);
    return std::make_unique<GlooCollective>(std::move(context), options_.operation_timeout);
  }

 private:
  const GlooOptions options_;
  Meeting* const meeting_;
  const std::shared_ptr<gloo::transport::Device> device_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CollectiveFactory>> MakeGlooFactory(const GlooOptions& options,
                                                                   Meeting* meeting) {
  std::shared_ptr<gloo::transport::Device> device;
  RETURN_IF_ERROR(CatchGloo("bind", [&] {
    device = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(options.host.c_str()));
    return absl::OkStatus();
  }));
  return std::make_unique<GlooFactory>(options, meeting, std::move(device));
}

}  // namespace pregate
