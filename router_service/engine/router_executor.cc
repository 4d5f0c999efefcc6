#include "router_service/engine/router_executor.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/base/status.h"

namespace pregate {

RouterExecutor::RouterExecutor(Device& device, const RouterExecutorOptions& options,
                               std::unique_ptr<RouterNet> net)
    : device_(device),
      options_(options),
      blocks_per_session_((options.context_tokens_max + kKvBlockTokens - 1) / kKvBlockTokens),
      net_(std::move(net)) {}

absl::StatusOr<std::unique_ptr<RouterExecutor>> RouterExecutor::Create(
    std::unique_ptr<RouterNet> net, Device& device, const RouterExecutorOptions& options) {
  std::unique_ptr<RouterExecutor> executor(new RouterExecutor(device, options, std::move(net)));
  RETURN_IF_ERROR(executor->Allocate());
  return executor;
}

absl::Status RouterExecutor::Allocate() {
  for (int l = 0; l < net_->num_layers(); ++l) {
    ASSIGN_OR_RETURN(DeviceBuffer buffer, device_.Allocate(net_->KvLayerBytes(options_.kv_blocks)));
    kv_.push_back(net_->KvShape(options_.kv_blocks));
    kv_.back().data = buffer.as<void>();
    kv_buffers_.push_back(std::move(buffer));
  }
  const size_t tokens = net_->tokens_max();
  RETURN_IF_ERROR(AllocateStaged(num_tokens_, 1));
  for (Staged* staged : {&token_ids_, &positions_, &row_of_token_}) {
    RETURN_IF_ERROR(AllocateStaged(*staged, tokens));
  }
  RETURN_IF_ERROR(AllocateStaged(block_tables_, tokens * blocks_per_session_));
  ASSIGN_OR_RETURN(routes_, device_.Allocate(tokens * sizeof(int32_t)));
  ASSIGN_OR_RETURN(logits_, device_.Allocate(tokens * net_->num_experts() * sizeof(float)));
  return absl::OkStatus();
}

absl::Status RouterExecutor::AllocateStaged(Staged& staged, size_t size) {
  staged.host.resize(size);
  ASSIGN_OR_RETURN(staged.device, device_.Allocate(size * sizeof(int32_t)));
  return absl::OkStatus();
}

void RouterExecutor::Stage(const RouteStep& step) {
  int token = 0;
  for (size_t r = 0; r < step.rows.size(); ++r) {
    const RouteRow& row = step.rows[r];
    PREGATE_CHECK(static_cast<int>(row.blocks.size()) <= blocks_per_session_, "blocks ",
                  row.blocks.size());
    std::copy(row.blocks.begin(), row.blocks.end(),
              block_tables_.host.begin() + r * blocks_per_session_);
    for (size_t i = 0; i < row.tokens.size(); ++i, ++token) {
      token_ids_.host[token] = row.tokens[i];
      positions_.host[token] = row.position + static_cast<int>(i);
      row_of_token_.host[token] = static_cast<int32_t>(r);
    }
  }
  num_tokens_.host[0] = token;
  UploadStaged(num_tokens_, 1);
  for (const Staged* staged : {&token_ids_, &positions_, &row_of_token_})
    UploadStaged(*staged, token);
  UploadStaged(block_tables_, step.rows.size() * blocks_per_session_);
}

void RouterExecutor::UploadStaged(const Staged& staged, size_t size) {
  device_.Upload(staged.device.as<void>(), staged.host.data(), size * sizeof(int32_t));
}

absl::Status RouterExecutor::Run(const RouteStep& step, std::vector<ExpertId>* routes,
                                 std::vector<float>* logits) {
  PREGATE_CHECK(step.num_tokens <= net_->tokens_max(), "tokens ", step.num_tokens);
  Stage(step);
  // Capacities are powers of two: a card sizes its work by them.
  const int rows_max = std::min(
      static_cast<int>(std::bit_ceil(static_cast<uint32_t>(step.num_tokens))), net_->tokens_max());
  const TokenBatch batch{.rows = {num_tokens_.device.as<int32_t>(), rows_max},
                         .token_ids = token_ids_.device.as<int32_t>(),
                         .positions = positions_.device.as<int32_t>(),
                         .seq_slots = row_of_token_.device.as<int32_t>(),
                         .block_tables = block_tables_.device.as<int32_t>(),
                         .blocks_per_seq = blocks_per_session_};
  net_->Forward(batch, kv_, logits_.as<float>(), routes_.as<int32_t>());
  routes->resize(step.num_tokens);
  device_.Download(routes->data(), routes_.as<void>(), routes->size() * sizeof(ExpertId));
  if (logits != nullptr) {
    logits->resize(static_cast<size_t>(step.num_tokens) * net_->num_experts());
    device_.Download(logits->data(), logits_.as<void>(), logits->size() * sizeof(float));
  }
  return device_.Synchronize();
}

}  // namespace pregate
