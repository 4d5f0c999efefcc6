// Expected failures are absl::Status and name the field and value at fault; broken invariants
// abort.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#define PREGATE_CONCAT_INNER(a, b) a##b
#define PREGATE_CONCAT(a, b) PREGATE_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` is not OK.
#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status _status = (expr); !_status.ok()) return _status; \
  } while (0)

// ASSIGN_OR_RETURN(auto x, F()): x = *F(), or returns its status.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_INNER(PREGATE_CONCAT(_status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_INNER(var, lhs, expr) \
  auto var = (expr);                           \
  if (!var.ok()) return var.status();          \
  lhs = *std::move(var)

// Aborts with file, line and condition: for invariants of our own code, never for input.
#define PREGATE_CHECK(cond, ...)                                                                  \
  do {                                                                                            \
    if (!(cond)) ::pregate::CheckFailed(__FILE__, __LINE__, #cond, absl::StrCat("" __VA_ARGS__)); \
  } while (0)

namespace pregate {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* cond,
                                     const std::string& detail) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s %s\n", file, line, cond, detail.c_str());
  std::abort();
}

// A status that shares no memory with `status`, for another thread: copies share a counted message,
// and ThreadSanitizer cannot see the counting inside Debian's Abseil.
inline absl::Status UnsharedCopy(const absl::Status& status) {
  return absl::Status(status.code(), status.message());
}

}  // namespace pregate
