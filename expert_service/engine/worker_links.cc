#include "expert_service/engine/worker_links.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"

namespace pregate {

WorkerLinks::WorkerLinks(absl::Duration lease, Calls calls, Clock* clock, WorkerObserver* observer)
    : term_(lease),
      calls_(std::move(calls)),
      clock_(clock),
      observer_(observer),
      lease_(lease, kEpochAheadMax) {}

void WorkerLinks::SetHello(Hello hello) {
  std::lock_guard lock(mutex_);
  hello_ = std::move(hello);
}

Hello WorkerLinks::MakeHello() {
  std::string rendezvous = calls_.make_rendezvous();
  std::lock_guard lock(mutex_);
  Hello hello = hello_;
  hello.highest_epoch = lease_.held().epoch;
  hello.rendezvous = std::move(rendezvous);
  hello.lease_ms = static_cast<int32_t>(absl::ToInt64Milliseconds(term_));
  return hello;
}

// Before anyone else can send to the link: Hello comes first.
void WorkerLinks::Attach(LinkId link, Send send) {
  send(MakeHello());
  observer_->OnLog(LogLevel::kInfo, "link attached", {{"link", link}});
  std::lock_guard lock(mutex_);
  links_[link] = {std::move(send)};
  observer_->OnLinks(static_cast<int32_t>(links_.size()));
}

void WorkerLinks::Detach(LinkId link) {
  std::vector<Send> waiting;
  bool was_holder = false;
  {
    std::lock_guard lock(mutex_);
    links_.erase(link);
    observer_->OnLinks(static_cast<int32_t>(links_.size()));
    was_holder = lease_.Release(link);
    for (const auto& [other, entry] : links_) {
      if (was_holder) waiting.push_back(entry.send);
    }
  }
  observer_->OnLog(LogLevel::kInfo, "link lost", {{"link", link}, {"held", was_holder}});
  for (const Send& send : waiting) send(MakeHello());
}

std::optional<std::stop_token> WorkerLinks::Arrive(LinkId link, const ToWorker& message) {
  if (const auto* form = std::get_if<Form>(&message)) return Admit(link, *form);
  if (const auto* renew = std::get_if<Renew>(&message)) {
    OnRenew(link, *renew);
    return std::nullopt;
  }
  std::lock_guard lock(mutex_);
  lease_.Renew(link, clock_->Now());
  return std::stop_token();
}

std::optional<std::stop_token> WorkerLinks::Admit(LinkId link, const Form& form) {
  absl::Status status = calls_.check_form(form);
  std::stop_source ended(std::nostopstate);
  std::stop_token token;
  Lease::Claim before;
  {
    std::lock_guard lock(mutex_);
    if (closed_ || !links_.contains(link)) return std::nullopt;
    before = lease_.held();
    if (status.ok()) status = lease_.Take({link, form.scheduler_id, form.epoch}, clock_->Now());
    if (status.ok()) {
      ended = std::exchange(epoch_, std::stop_source());
      token = epoch_.get_token();
    }
  }
  if (!status.ok()) {
    observer_->OnLog(LogLevel::kWarning, "form refused",
                     {{"epoch", form.epoch}, {"reason", std::string(status.message())}});
    SendTo(link, Formed{form.epoch, status, calls_.make_rendezvous()});
    return std::nullopt;
  }
  ended.request_stop();
  if (before.link != 0 && before.scheduler_id != form.scheduler_id) {
    const std::string why = absl::StrCat(
        "scheduler '", form.scheduler_id, "' has taken this worker: nothing came from '",
        before.scheduler_id, "' for ", absl::FormatDuration(term_));
    observer_->OnLog(LogLevel::kWarning, "lease lost", {{"link", before.link}, {"reason", why}});
    SendTo(before.link, Formed{before.epoch, absl::PermissionDeniedError(why), ""});
  }
  return token;
}

void WorkerLinks::OnRenew(LinkId link, const Renew& renew) {
  std::stop_source over(std::nostopstate);
  {
    std::lock_guard lock(mutex_);
    const auto found = links_.find(link);
    if (found == links_.end()) return;
    found->second.renews = true;
    lease_.Renew(link, clock_->Now());
    const Lease::Claim& held = lease_.held();
    if (held.link == link && held.epoch <= renew.void_through) over = epoch_;
  }
  over.request_stop();
}

void WorkerLinks::Close() {
  std::stop_source last;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    last = epoch_;
  }
  last.request_stop();
}

void WorkerLinks::SendTo(LinkId link, FromWorker message) {
  Send send;
  {
    std::lock_guard lock(mutex_);
    const auto found = links_.find(link);
    if (found == links_.end()) return;
    send = found->second.send;
  }
  send(std::move(message));
}

void WorkerLinks::SendAlive(const Alive& alive) {
  std::vector<Send> renewing;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [link, entry] : links_) {
      if (entry.renews) renewing.push_back(entry.send);
    }
  }
  for (const Send& send : renewing) send(alive);
}

LinkId WorkerLinks::holder() const {
  std::lock_guard lock(mutex_);
  return lease_.held().link;
}

}  // namespace pregate
