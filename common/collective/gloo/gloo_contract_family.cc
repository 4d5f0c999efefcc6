// Each rank has a device (network thread) of its own, as the processes of a cell have.
#include "common/collective/collective_contract.h"
#include "common/collective/gloo/gloo_factory.h"
#include "common/collective/meeting.h"

namespace pregate {
namespace {

class GlooWorld final : public CollectiveWorld {
 public:
  GlooWorld(int world_size, absl::Duration timeout) {
    for (int rank = 0; rank < world_size; ++rank) {
      auto factory = MakeGlooFactory({.operation_timeout = timeout}, &meeting_);
      EXPECT_TRUE(factory.ok()) << factory.status();
      factories_.push_back(*std::move(factory));
    }
  }
  CollectiveFactory& factory(int rank) override { return *factories_[rank]; }

 private:
  InProcessMeeting meeting_;
  std::vector<std::unique_ptr<CollectiveFactory>> factories_;
};

}  // namespace

std::vector<CollectiveFamily> CollectivesUnderTest() {
  return {{"gloo", [](int world_size, absl::Duration timeout) {
             return std::make_unique<GlooWorld>(world_size, timeout);
           }}};
}

}  // namespace pregate
