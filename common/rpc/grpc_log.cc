#include "common/rpc/grpc_log.h"

#include <grpc/support/log.h>

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/status.h"
#include "common/telemetry/refusal_log.h"

namespace pregate {
namespace {

// Handshakes have a budget of their own, so that a peer cannot drown the rest.
struct Target {
  Target(const Log* log, Clock* clock)
      : log(log), handshakes(log, clock), others(log, clock, "grpc reports an error") {}
  const Log* const log;
  RefusalLog handshakes, others;
};

// The one process-wide variable of pregate: gRPC's hook is a plain function without an argument.
absl::Mutex mutex(absl::kConstInit);
Target* target ABSL_GUARDED_BY(mutex) = nullptr;

// gRPC complains of every connection whose server name is not in our certificate, and goes on: here
// roles are compared, not names.
constexpr char kNoError[] = "No match found for server name";

// GPR_ASSERT's line, after which gRPC aborts the process: never one too many.
constexpr char kLastWords[] = "assertion failed";

void Take(gpr_log_func_args* args) {
  if (absl::StartsWith(args->message, kNoError)) return;
  const absl::string_view file = args->file;
  absl::MutexLock lock(&mutex);
  if (target == nullptr) return;
  if (absl::StartsWith(args->message, kLastWords)) {
    return target->log->Error(
        "grpc aborts", {{"at", absl::StrCat(file, ":", args->line)}, {"reason", args->message}});
  }
  RefusalLog& log =
      absl::StrContains(file, "ssl_transport_security") ? target->handshakes : target->others;
  log.Add("grpc", args->message);
}

}  // namespace

GrpcLog::GrpcLog(const Log* log, Clock* clock) {
  absl::MutexLock lock(&mutex);
  PREGATE_CHECK(target == nullptr, "two GrpcLogs");
  target = new Target(log, clock);
  gpr_set_log_function(Take);
}

// gRPC's threads may outlive the object: they find no target.
GrpcLog::~GrpcLog() {
  absl::MutexLock lock(&mutex);
  delete target;
  target = nullptr;
}

}  // namespace pregate
