#include "common/collective/collective_contract.h"
#include "common/collective/local/local_fabric.h"

namespace pregate {
namespace {

class LocalWorld final : public CollectiveWorld {
 public:
  explicit LocalWorld(absl::Duration timeout) : fabric_(timeout) {}
  CollectiveFactory& factory(int rank) override { return fabric_; }

 private:
  LocalFabric fabric_;
};

}  // namespace

std::vector<CollectiveFamily> CollectivesUnderTest() {
  return {{"local", [](int world_size, absl::Duration timeout) {
             return std::make_unique<LocalWorld>(timeout);
           }}};
}

}  // namespace pregate
