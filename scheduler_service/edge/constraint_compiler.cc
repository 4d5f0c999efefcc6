#include "scheduler_service/edge/constraint_compiler.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "common/base/grammar_limits.h"
#include "common/base/hash.h"
#include "common/base/status.h"

namespace pregate {
namespace {

void AddText(std::string_view text, Sha256* hash) {
  hash->Update(absl::StrCat(text.size(), ":"));
  hash->Update(text);
}

struct AddTo {
  Sha256* hash;

  void operator()(const JsonObjectConstraint&) const {}
  void operator()(const JsonSchemaConstraint& json) const { AddText(json.schema, hash); }
  void operator()(const RegexConstraint& regex) const { AddText(regex.pattern, hash); }
  void operator()(const ChoiceConstraint& choice) const {
    for (const std::string& text : choice.texts) AddText(text, hash);
  }
  void operator()(const MarkedJsonConstraint& marked) const {
    for (const std::string* text : {&marked.begin, &marked.end, &marked.schema}) {
      AddText(*text, hash);
    }
    hash->Update(marked.once ? "1" : "0");
  }
};

// Equal for equal constraints alone, whatever a stranger writes.
std::string KeyOf(const Constraint& constraint) {
  Sha256 hash;
  hash.Update(absl::StrCat(constraint.index(), ";"));
  std::visit(AddTo{&hash}, constraint);
  return hash.HexDigest();
}

}  // namespace

ConstraintCompiler::ConstraintCompiler(const Tokenizer* tokenizer, int vocab_size)
    : tokenizer_(tokenizer), vocab_size_(vocab_size), thread_([this] { Run(); }) {}

ConstraintCompiler::~ConstraintCompiler() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void ConstraintCompiler::Compile(Constraint constraint, Done done) {
  if (const absl::Status status = CheckConstraint(constraint); !status.ok()) return done(status);
  std::string key = KeyOf(constraint);
  Grammar kept;
  {
    absl::MutexLock lock(&mutex_);
    kept = FindKept(key);
    if (kept == nullptr && jobs_.size() < kConstraintsCompilingMax) {
      jobs_.push_back({std::move(key), std::move(constraint), std::move(done)});
      return;
    }
  }
  if (kept != nullptr) return done(std::move(kept));
  done(absl::ResourceExhaustedError(
      absl::StrCat(kConstraintsCompilingMax, " constraints wait to be compiled")));
}

void ConstraintCompiler::Run() {
  while (true) {
    Job job;
    Grammar kept;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &ConstraintCompiler::MayRun));
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      kept = FindKept(job.key);  // compiled since it began to wait
    }
    if (kept != nullptr) {
      job.done(std::move(kept));
      continue;
    }
    job.done(CompileNew(job));
  }
}

absl::StatusOr<ConstraintCompiler::Grammar> ConstraintCompiler::CompileNew(const Job& job) {
  RETURN_IF_ERROR(MakeRoom());
  if (trie_ == nullptr) trie_ = std::make_shared<TokenTrie>(*tokenizer_, vocab_size_);
  ASSIGN_OR_RETURN(Grammar grammar, CompileConstraint(job.constraint, trie_));
  live_.push_back(grammar);
  absl::MutexLock lock(&mutex_);
  Keep(job.key, grammar);
  return grammar;
}

absl::Status ConstraintCompiler::MakeRoom() {
  const auto live_bytes = [&] {
    size_t bytes = 0;
    std::erase_if(live_, [&](const std::weak_ptr<CompiledGrammar>& entry) {
      const Grammar grammar = entry.lock();
      if (grammar != nullptr) bytes += grammar->bytes();
      return grammar == nullptr;
    });
    return bytes;
  };
  if (live_bytes() < kConstraintsLiveBytesMax) return absl::OkStatus();
  {
    absl::MutexLock lock(&mutex_);
    kept_.clear();
    uses_.clear();
  }
  if (live_bytes() < kConstraintsLiveBytesMax) return absl::OkStatus();
  return absl::ResourceExhaustedError("the constraints of requests under way take too much memory");
}

ConstraintCompiler::Grammar ConstraintCompiler::FindKept(const std::string& key) {
  const auto it = kept_.find(key);
  if (it == kept_.end()) return nullptr;
  uses_.splice(uses_.begin(), uses_, it->second.use);
  return it->second.grammar;
}

void ConstraintCompiler::Keep(const std::string& key, const Grammar& grammar) {
  uses_.push_front(key);
  kept_[key] = {grammar, uses_.begin()};
  if (kept_.size() <= kConstraintsKeptMax) return;
  kept_.erase(uses_.back());
  uses_.pop_back();
}

}  // namespace pregate
