// The rotary embedding of one pair of channels.
#pragma once

#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {

struct Turn {
  float sine = 0, cosine = 1;

  Turn() = default;
  __device__ Turn(int position, float inv_freq, float scale) {
    sincosf(__fmul_rn(static_cast<float>(position), inv_freq), &sine, &cosine);
    sine = __fmul_rn(sine, scale);
    cosine = __fmul_rn(cosine, scale);
  }
  // The channel of the first half, then its partner of the second.
  __device__ float First(float a, float b) const {
    return __fmaf_rn(a, cosine, -__fmul_rn(b, sine));
  }
  __device__ float Second(float a, float b) const {
    return __fmaf_rn(b, cosine, __fmul_rn(a, sine));
  }
};

// A strip of 16 channels of a head of q, k or v: where they turn, eight of the first half and then
// their partners; else neighbours.
struct HeadStrip {
  int head, channel;
  bool rotated;

  // REQUIRES: head_dim is a multiple of 16, of which all channels turn or none.
  __device__ HeadStrip(const Heads& heads, bool rotates, int strip) {
    const int per_head = heads.head_dim / 16;
    head = strip / per_head;
    rotated = rotates && head < heads.num_heads + heads.num_kv_heads;
    channel = strip % per_head * (rotated ? 8 : 16);
  }
  // From a channel of the first eight to the one that goes with it.
  __device__ int to_partner(const Heads& heads) const { return rotated ? heads.head_dim / 2 : 8; }
};

}  // namespace pregate::cuda
