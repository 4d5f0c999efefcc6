// Gloo and OpenSSL write to sockets without MSG_NOSIGNAL, so a peer that left would kill the
// process.
#pragma once

#include <signal.h>
#include <time.h>

namespace pregate {

// While it lives, this thread (and threads started meanwhile, for good) takes no SIGPIPE: the write
// fails with EPIPE instead. The process's handlers stay as they are.
class SigpipeBlock {
 public:
  SigpipeBlock() {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
  }
  ~SigpipeBlock() {
    if (sigismember(&before_, SIGPIPE) == 1) return;
    const timespec at_once = {};
    while (sigtimedwait(&sigpipe_, nullptr, &at_once) > 0) {  // what is pending would come now
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SigpipeBlock(const SigpipeBlock&) = delete;
  SigpipeBlock& operator=(const SigpipeBlock&) = delete;

 private:
  sigset_t sigpipe_;
  sigset_t before_;
};

}  // namespace pregate
