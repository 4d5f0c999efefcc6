// Compiles the constraints of requests on a thread of its own, one after the other, so that a schema
// that takes long delays neither the engine nor gRPC's threads.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/grammar/constraint.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// Thread-safe. What was compiled last is kept for the next request with the same constraint; its
// masks too, for the engine goes on with the same grammar.
class ConstraintCompiler {
 public:
  using Grammar = std::shared_ptr<CompiledGrammar>;
  using Done = std::function<void(absl::StatusOr<Grammar>)>;

  // `tokenizer` outlives the compiler. `vocab_size`: the model's.
  ConstraintCompiler(const Tokenizer* tokenizer, int vocab_size);
  ~ConstraintCompiler();  // what waits is dropped

  // Calls `done` once: at once where the grammar is kept, or too many wait (RESOURCE_EXHAUSTED);
  // else on the compiler's thread.
  void Compile(Constraint constraint, Done done);

 private:
  struct Job {
    std::string key;
    Constraint constraint;
    Done done;
  };
  struct Kept {
    Grammar grammar;
    std::list<std::string>::iterator use;
  };

  void Run();
  absl::StatusOr<Grammar> CompileNew(const Job& job);
  // RESOURCE_EXHAUSTED where compiled constraints of requests under way take too much memory,
  // although none is kept beside them.
  absl::Status MakeRoom();
  Grammar FindKept(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Keep(const std::string& key, const Grammar& grammar) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayRun() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_ || !jobs_.empty(); }

  const Tokenizer* const tokenizer_;
  const int vocab_size_;
  absl::Mutex mutex_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<std::string> uses_ ABSL_GUARDED_BY(mutex_);  // keys, the last used first
  absl::flat_hash_map<std::string, Kept> kept_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<CompiledGrammar>> live_;  // the thread's alone, as is trie_
  std::shared_ptr<const TokenTrie> trie_;
  std::thread thread_;
};

}  // namespace pregate
