#include "lock/several.hpp"

#include "lock/lock_file.hpp"
#include "lock/place.hpp"
#include "lock/stamp.hpp"
#include "lock/take.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

// One of the locks.
struct NamedLock {
  std::string name;      // as the caller wrote it
  LockRequest request;   // for this one alone
  sys::Descriptor place; // the directory of a name:, locked shared while in use
  Access access;
};

// One of the files, open.
struct Opened {
  NamedLock* wanted;
  LockFile file;
  Taken taken{};
};

Result<NamedLock, Error> wanted_of(const LockRequest& request, const std::string& name, Mode mode)
{
  NamedLock wanted{name, request, {}, Access::read};
  wanted.request.also.clear();
  wanted.request.path = name;
  wanted.request.mode = mode;
  wanted.access = access_for(wanted.request);
  if (is_name(name)) {
    auto place = place_of(name);
    if (!place) { return tl::unexpected(place.error()); }
    wanted.request.path = place->path;
    wanted.place = std::move(place->directory);
  }
  return wanted;
}

Result<std::vector<NamedLock>, Error> all_wanted(const LockRequest& request)
{
  std::vector<NamedLock> all;
  all.reserve(1 + request.also.size());
  auto first = wanted_of(request, request.path, request.mode);
  if (!first) { return tl::unexpected(first.error()); }
  all.push_back(std::move(*first));
  for (const FurtherLock& further : request.also) {
    auto wanted = wanted_of(request, further.path, further.mode);
    if (!wanted) { return tl::unexpected(wanted.error()); }
    all.push_back(std::move(*wanted));
  }
  return all;
}

// The caller knows the lock by the name that it wrote.
tl::unexpected<Error> failed(Error error, const NamedLock& wanted)
{
  if (error.target == wanted.request.path) { error.target = wanted.name; }
  return tl::unexpected(std::move(error));
}

Result<std::vector<Opened>, Error> open_all(std::vector<NamedLock>& all, const Patience& patience)
{
  std::vector<Opened> opened;
  opened.reserve(all.size());
  for (NamedLock& wanted : all) {
    auto file = open_lock_file(wanted.request, wanted.access, patience);
    if (!file) { return failed(file.error(), wanted); }
    opened.push_back({&wanted, std::move(*file)});
  }
  return opened;
}

// In the order in which everybody takes them, each once. Of several names for a file the exclusive one counts, because
// it is open in the way that an exclusive lock needs.
void put_in_order(std::vector<Opened>& opened)
{
  const auto is_same = [](
                         const Opened& a, const Opened& b) { return a.file.status.identity == b.file.status.identity; };
  std::stable_sort(opened.begin(), opened.end(), [&](const Opened& a, const Opened& b) {
    const auto& one = a.file.status.identity;
    const auto& other = b.file.status.identity;
    if (is_same(a, b)) { return a.wanted->request.mode == Mode::exclusive && b.wanted->request.mode == Mode::shared; }
    return std::pair(one.device, one.inode) < std::pair(other.device, other.inode);
  });
  opened.erase(std::unique(opened.begin(), opened.end(), is_same), opened.end());
}

enum class Outcome { complete, start_again };

Result<Outcome, Error> take_all(std::vector<Opened>& opened, const Patience& patience)
{
  for (Opened& each : opened) {
    auto taken = take(each.file.fd, each.file.queue_fd(), each.wanted->request, patience);
    if (taken) {
      each.taken = std::move(*taken);
      continue;
    }
    NamedLock& wanted = *each.wanted;
    if (wanted.access == Access::write || !wants_writing(taken.error())) { return failed(taken.error(), wanted); }
    wanted.access = Access::write;
    return Outcome::start_again;
  }
  return Outcome::complete;
}

// Whether our ancestors still hold what was left to them.
Outcome check_ancestors(const std::vector<Opened>& opened)
{
  const bool is_covered = std::all_of(opened.begin(), opened.end(),
    [](const Opened& each) { return is_still_covered(each.taken, each.file.fd, each.wanted->request); });
  return is_covered ? Outcome::complete : Outcome::start_again;
}

// Whether all of the names still mean files that we have.
Result<Outcome, Error> check_names(const std::vector<Opened>& opened, const std::vector<NamedLock>& all)
{
  for (const NamedLock& wanted : all) {
    bool is_known = false;
    for (const Opened& each : opened) {
      const auto naming = what_is_named(wanted.request, each.file.status.identity);
      if (!naming) { return failed(naming.error(), wanted); }
      is_known = is_known || *naming == Naming::same_file;
    }
    if (!is_known) { return Outcome::start_again; }
  }
  return Outcome::complete;
}

bool is_place_gone(const Error& error, const std::vector<NamedLock>& all)
{
  const auto failed =
    std::find_if(all.begin(), all.end(), [&](const NamedLock& wanted) { return wanted.name == error.target; });
  return failed != all.end() && is_name(failed->name) &&
         lockrun::is_place_gone(error, failed->request.path, failed->place);
}

std::vector<Hold> holds_of(std::vector<Opened>& opened, std::vector<NamedLock>& all)
{
  std::vector<Hold> holds;
  for (Opened& each : opened) {
    if (!each.taken.is_ours()) { continue; }
    const LockRequest& request = each.wanted->request;
    if (each.file.status.type == sys::FileType::regular) { stamp(each.file.fd); }
    const bool unlink = request.file.unlink && each.taken.is_complete;
    holds.push_back({std::move(each.file.fd), request.mode, each.taken.api, request.range, request.path, unlink});
  }
  for (NamedLock& wanted : all) {
    if (is_name(wanted.name)) { holds.push_back({std::move(wanted.place), Mode::shared, Api::flock, {}, {}, false}); }
  }
  return holds;
}

Result<std::vector<Hold>, Error> acquire_wanted(std::vector<NamedLock>& all, const Patience& patience)
{
  Retries retries(patience);
  for (;;) {
    auto opened = open_all(all, patience); // whatever is locked in vain is freed when these are closed
    if (!opened) { return tl::unexpected(opened.error()); }
    put_in_order(*opened);
    auto outcome = take_all(*opened, patience);
    if (outcome && *outcome == Outcome::complete) { outcome = check_ancestors(*opened); }
    if (outcome && *outcome == Outcome::complete) { outcome = check_names(*opened, all); }
    if (!outcome) { return tl::unexpected(outcome.error()); }
    if (*outcome == Outcome::complete) { return holds_of(*opened, all); }
    if (auto reason = retries.reason_to_stop(all.front().name)) { return tl::unexpected(std::move(*reason)); }
  }
}

} // namespace

Result<std::vector<Hold>, Error> acquire_several(const LockRequest& request, const Patience& patience)
{
  Retries retries(patience);
  for (;;) {
    auto all = all_wanted(request);
    if (!all) { return tl::unexpected(all.error()); }
    auto holds = acquire_wanted(*all, patience);
    if (holds || !is_place_gone(holds.error(), *all)) { return holds; }
    if (auto reason = retries.reason_to_stop(holds.error().target)) { return tl::unexpected(std::move(*reason)); }
  }
}

} // namespace lockrun
