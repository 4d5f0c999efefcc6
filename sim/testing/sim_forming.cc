// SimWorld: how workers form.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "sim/testing/sim_world.h"

namespace pregate::scheduler {

std::string SimWorld::OpenMeeting(int rank) {
  const std::string rendezvous = absl::StrCat(rank, "/", ++num_meetings_);
  meetings_[rendezvous] = {};
  return rendezvous;
}

// Who waits there does not learn of it: it dials on.
void SimWorld::CloseMeetingsOf(int rank) {
  std::erase_if(meetings_, [&](const auto& meeting) {
    return absl::StartsWith(meeting.first, absl::StrCat(rank, "/"));
  });
  for (auto& [rendezvous, guests] : meetings_) guests.erase(rank);
}

void SimWorld::AfterAt(int rank, absl::Duration delay, std::function<void()> action) {
  const absl::Time due = std::max(agenda_.now(), ends_[rank].frozen_until) + delay;
  At(due, [=, this, work = ends_[rank].work] {
    if (ends_[rank].work != work) return;
    if (ends_[rank].frozen_until > agenda_.now())
      return AfterAt(rank, absl::ZeroDuration(), action);
    action();
  });
}

void SimWorld::BeginForm(int rank, const Form& form) {
  WorkerEnd& end = ends_[rank];
  const absl::Status admitted = end.worker->Admit(end.connection, form, agenda_.now());
  if (!admitted.ok()) {
    return FromWorkerToEngine(rank, Formed{form.epoch, admitted, OpenMeeting(rank)});
  }
  EndForm(rank, form.epoch);
  end.busy = false;
  ++end.work;
  end.forming = form;
  FromWorkerToEngine(rank, Progress{form.epoch, 0});
  if (form.members.size() == 1) return LoadNext(rank);
  const auto meeting = meetings_.find(form.rendezvous);
  if (meeting == meetings_.end()) {
    return AnswerForm(rank, {form.epoch, absl::UnavailableError("the meeting is over"), ""});
  }
  meeting->second.insert(rank);
  if (meeting->second.size() < form.members.size()) return;
  const std::set<int> all = std::move(meeting->second);
  meetings_.erase(meeting);
  for (const int guest : all) {
    AfterAt(guest, RandomDuration(absl::Milliseconds(1), absl::Milliseconds(30)),
            [=, this] { LoadNext(guest); });
  }
}

void SimWorld::LoadNext(int rank) {
  WorkerEnd& end = ends_[rank];
  const Form& form = *end.forming;
  const auto self = std::find(form.members.begin(), form.members.end(), rank);
  const auto index = static_cast<int32_t>(self - form.members.begin());
  for (ExpertId e = 0; e < static_cast<ExpertId>(form.placement.ranks.size()); ++e) {
    const std::vector<int32_t>& ranks = form.placement.ranks[e];
    const bool placed = std::find(ranks.begin(), ranks.end(), index) != ranks.end();
    if (!placed || end.held.contains(e)) continue;
    if (end.config.damaged == e) return EndDamaged(rank);
    if (end.config.expert_load == absl::ZeroDuration()) continue;
    return AfterAt(rank, end.config.expert_load, [=, this] {
      ends_[rank].held.insert(e);
      FromWorkerToEngine(rank, Progress{ends_[rank].forming->epoch, 0});
      LoadNext(rank);
    });
  }
  Log("worker ", rank, " has formed epoch ", form.epoch);
  AnswerForm(rank, end.worker->OnForm(form));
}

// The answer is on its way when the process ends.
void SimWorld::EndDamaged(int rank) {
  const WorkerEnd& end = ends_[rank];
  AnswerForm(rank, {end.forming->epoch, absl::DataLossError("content differs"), ""});
  AfterAt(rank, absl::Milliseconds(1), [=, this] { KillWorker(rank, ends_[rank].config.restart); });
}

// A guest that leaves ends the meeting for all.
void SimWorld::EndForm(int rank, Epoch through) {
  WorkerEnd& end = ends_[rank];
  if (!end.forming || end.forming->epoch > through) return;
  const auto meeting = meetings_.find(end.forming->rendezvous);
  if (meeting != meetings_.end() && meeting->second.erase(rank) > 0) {
    const std::set<int> others = std::move(meeting->second);
    meetings_.erase(meeting);
    for (const int other : others) {
      AnswerForm(other, {ends_[other].forming->epoch, absl::UnavailableError("a rank left"), ""});
    }
  }
  AnswerForm(rank, {end.forming->epoch, absl::AbortedError("overtaken"), ""});
}

void SimWorld::AnswerForm(int rank, Formed formed) {
  WorkerEnd& end = ends_[rank];
  end.forming.reset();
  ++end.work;
  formed.rendezvous = OpenMeeting(rank);
  if (end.frozen_until <= agenda_.now()) return FromWorkerToEngine(rank, std::move(formed));
  AfterAt(rank, absl::ZeroDuration(), [=, this] { FromWorkerToEngine(rank, formed); });
}

}  // namespace pregate::scheduler
