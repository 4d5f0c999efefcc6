// The device's form of the exchange plan, and rows on the wire.
#pragma once

#include "common/device/device.h"

namespace pregate::cpu {

void BuildExchange(RowCount tokens, const ExchangeArgs& args, const ExchangeArrays& out);

// One row: x is f32, wire is in its type.
void FloatsToWire(const float* x, int width, WireType type, void* wire);
void WireToFloats(const void* wire, int width, WireType type, float* x);

}  // namespace pregate::cpu
