// SHA-256 where someone might want to deceive, XXH3 where only damage is feared.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace pregate {

// SHA-256 (OpenSSL's) with the streaming form that large files need.

// Not thread-safe. Update any number of times, then HexDigest once.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::string_view bytes);
  std::string HexDigest();  // 64 lower-case hex digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view bytes);
std::array<uint8_t, 32> Sha256Digest(std::string_view bytes);

// XXH3 of 128 bits (libxxhash's): a checksum at the speed of memory, against mistakes and broken
// disks. It is no defence against somebody who writes what it agrees with: that is SHA-256's.

// Not thread-safe. Update any number of times, then HexDigest.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;

  void Update(std::string_view bytes);
  std::string HexDigest() const;  // 32 lower-case hex digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Xxh3Hex(std::string_view bytes);

}  // namespace pregate
