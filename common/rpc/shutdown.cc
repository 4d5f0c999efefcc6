#include "common/rpc/shutdown.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

namespace pregate {
namespace {

constexpr long kPollNs = 100'000'000;  // how soon the watcher sees that it should end

sigset_t ShutdownSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

ShutdownSignal::ShutdownSignal() {
  // Libraries write to sockets whose peers have gone, some without MSG_NOSIGNAL.
  signal(SIGPIPE, SIG_IGN);
  const sigset_t set = ShutdownSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { Watch(); });
}

ShutdownSignal::~ShutdownSignal() {
  stop_ = true;
  thread_.join();
}

void ShutdownSignal::BeginServing() { serving_ = true; }

void ShutdownSignal::Wait() { requested_.WaitForNotification(); }

void ShutdownSignal::Request() {
  if (!was_requested_.exchange(true)) requested_.Notify();
}

void ShutdownSignal::Watch() {
  const sigset_t set = ShutdownSignals();
  const timespec poll = {.tv_sec = 0, .tv_nsec = kPollNs};
  int num_signals = 0;
  while (!stop_) {
    const int signal = sigtimedwait(&set, nullptr, &poll);
    if (signal < 0) continue;
    if (++num_signals > 1 || !serving_) _exit(128 + signal);
    Request();
  }
}

}  // namespace pregate
