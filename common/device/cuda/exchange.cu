// The exchange plan of a step of several ranks, in one block.
//
//   counts[s][e]  tokens of home s on route e
//   received      follows from counts alone: message s holds its experts in order, each expert's
//                 tokens in order
//   send_rows     needs this rank's own tokens: a warp takes an expert and walks over them
#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;

// Place in its message of the first token of (home, expert): the tokens of lower experts that go to
// the same target.
__device__ int PlaceInMessage(const ExchangeProblem& p, const int32_t* counts, int home,
                              int expert) {
  const int32_t* targets = p.targets + int64_t{home} * p.num_experts;
  int place = 0;
  for (int e = 0; e < expert; ++e) {
    if (targets[e] == targets[expert]) place += counts[home * p.num_experts + e];
  }
  return place;
}

__device__ void FillOffsets(const ExchangeProblem& p, const int32_t* counts) {
  for (int e = threadIdx.x; e < p.num_experts; e += kThreads) {
    int received = 0;
    for (int s = 0; s < p.world_size; ++s) {
      const int pair = s * p.num_experts + e;
      if (p.targets[pair] == p.rank) received += counts[pair];
    }
    p.offsets[e + 1] = received;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    p.offsets[0] = 0;
    for (int e = 0; e < p.num_experts; ++e) p.offsets[e + 1] += p.offsets[e];
  }
  __syncthreads();
}

__device__ void FillOrder(const ExchangeProblem& p, const int32_t* counts) {
  for (int pair = threadIdx.x; pair < p.world_size * p.num_experts; pair += kThreads) {
    if (p.targets[pair] != p.rank) continue;
    const int source = pair / p.num_experts, expert = pair % p.num_experts;
    int at = p.offsets[expert];
    for (int s = 0; s < source; ++s) {
      const int before = s * p.num_experts + expert;
      if (p.targets[before] == p.rank) at += counts[before];
    }
    const int row = source * p.stride + PlaceInMessage(p, counts, source, expert);
    for (int j = 0; j < counts[pair]; ++j) p.order[at + j] = row + j;
  }
}

__device__ void FillSendRows(const ExchangeProblem& p, const int32_t* counts) {
  const int n = *p.tokens.num, lane = threadIdx.x % 32;
  for (int e = threadIdx.x / 32; e < p.num_experts; e += kWarps) {
    const int target = p.targets[int64_t{p.rank} * p.num_experts + e];
    int next = target * p.stride + PlaceInMessage(p, counts, p.rank, e);
    int num_own = 0;
    for (int first = 0; first < n; first += 32) {
      const int t = first + lane;
      const bool own = t < n && p.home_ranks[t] == p.rank;
      const bool mine = own && p.routes[t] == e;
      const uint32_t owns = __ballot_sync(~0u, own), mines = __ballot_sync(~0u, mine);
      const uint32_t below = (1u << lane) - 1;
      if (mine) p.send_rows[next + __popc(mines & below)] = num_own + __popc(owns & below);
      next += __popc(mines);
      num_own += __popc(owns);
    }
  }
}

__global__ void BuildExchangeKernel(ExchangeProblem p) {
  extern __shared__ int32_t counts[];  // [world, experts]
  for (int i = threadIdx.x; i < p.world_size * p.num_experts; i += kThreads) counts[i] = 0;
  for (int i = threadIdx.x; i < p.world_size * p.stride; i += kThreads) p.send_rows[i] = -1;
  __syncthreads();
  for (int t = threadIdx.x; t < *p.tokens.num; t += kThreads) {
    const int route = p.routes[t];
    if (route < 0 || route >= p.num_experts) continue;
    atomicAdd(counts + p.home_ranks[t] * p.num_experts + route, 1);
  }
  __syncthreads();
  FillOffsets(p, counts);
  FillOrder(p, counts);
  FillSendRows(p, counts);
  __threadfence();  // a product may read it as soon as this block ends
}

}  // namespace

void BuildExchange(Stream& stream, const ExchangeProblem& p) {
  Launch(stream, 1, kThreads, size_t(p.world_size) * p.num_experts * sizeof(int32_t),
         BuildExchangeKernel, p);
}

}  // namespace pregate::cuda
