// How the kernel runs the threads of this process.
#pragma once

#include "absl/status/status.h"

namespace pregate {

inline constexpr char kBatchThreadsHelp[] =
    "A thread that wakes up waits for the one that runs (SCHED_BATCH): at many streams a message "
    "costs up to half the processor time. For a program with cores of its own: beside a busy one "
    "it would wait for that";

// The calling thread and those that are begun by it or its own from now on do not interrupt who runs when
// they wake up. A message of a stream wakes several threads in turn, each of which takes the core from
// the one that has more messages to send.
absl::Status BatchThreads();

// Where BatchThreads was called: who waits for this thread runs now, and then it goes on.
void LetWaitingRun();

}  // namespace pregate
