// The device's form of the exchange plan, and rows on the wire.
#pragma once

#include "common/device/device.h"

namespace pregate::cpu {

void BuildExchange(RowCount tokens, const ExchangeArgs& args, const ExchangeArrays& out);

// One row: act and x are f32, wire is in the dtype.
void FloatsToWire(const float* x, int width, DType dtype, void* wire);
void WireToFloats(const void* wire, int width, DType dtype, float* x);

}  // namespace pregate::cpu
