#include "lock/wanted.hpp"

#include "kernel/slots.hpp"
#include "lock/lock_line.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace lockrun {
namespace {

using kernel::kernel_locks;
using kernel::KernelLock;
using sys::Attempt;
using sys::LockLine;

// What the open file description of the caller's descriptor has locked. Our own process' locks are none of it.
std::vector<LockLine> locks_of_caller(const sys::Descriptor& fd, const LockRequest& request)
{
  if (!request.fd) { return {}; }
  auto lines = sys::locks_of(sys::process_id(), fd.get()).value_or(std::vector<LockLine>());
  const auto is_other = [](const LockLine& line) {
    return line.waits || is_of_process(line) || line.kind == LockLine::Kind::lease;
  };
  lines.erase(std::remove_if(lines.begin(), lines.end(), is_other), lines.end());
  return lines;
}

std::size_t index_of(const KernelLock& kind)
{
  return kind.kind == LockLine::Kind::flock ? 0 : 1;
}

const LockLine* find_kind(const std::vector<LockLine>& lines, LockLine::Kind kind)
{
  const auto found =
    std::find_if(lines.begin(), lines.end(), [kind](const LockLine& line) { return line.kind == kind; });
  return found == lines.end() ? nullptr : &*found;
}

} // namespace

Wanted::Wanted(const sys::Descriptor& fd, const LockRequest& request)
  : m_fd(fd), m_request(request), m_mode(request.slots > 0 ? Mode::shared : request.mode),
    m_wants_slot(request.slots > 0), m_before(locks_of_caller(fd, request))
{}

Result<Attempt> Wanted::ask(Wait wait)
{
  auto answer = ask_step_by_step(wait);
  const bool goes_on = answer && *answer != Attempt::busy;
  if (!goes_on) { give_back(); }
  return answer;
}

Result<Attempt> Wanted::ask_step_by_step(Wait wait)
{
  if (m_wants_slot && !m_slot) {
    const auto slot =
      wait == Wait::never ? kernel::try_slot(m_fd, m_request.slots) : kernel::wait_slot(m_fd, m_request.slots);
    if (!slot) { return tl::unexpected(slot.error()); }
    if (!*slot) { return wait == Wait::never ? Attempt::busy : Attempt::interrupted; }
    m_slot = *slot;
  }
  for (auto next = step(m_steps); next; next = step(++m_steps)) {
    const auto answer = next->kind->lock(m_fd, m_mode, *next->range, wait);
    if (!answer || *answer != Attempt::acquired) { return answer; }
  }
  return Attempt::acquired;
}

void Wanted::give_back()
{
  for (; m_steps > 0; --m_steps) {
    const auto last = step(m_steps - 1);
    (void)unlock_but(m_fd, *last->kind, *last->range, m_before); // closing frees it as well, unless it is the caller's
  }
  if (m_slot) { (void)kernel::free_slot(m_fd, *m_slot); }
  m_slot.reset();
}

std::span<const Range> Wanted::ranges_of(const KernelLock& kind) const
{
  const auto& left = m_left[index_of(kind)];
  return left ? std::span<const Range>(*left) : std::span<const Range>(&m_request.range, 1);
}

std::optional<Wanted::Step> Wanted::step(std::size_t number) const
{
  for (const KernelLock* const kind : kernel_locks(m_request.api)) {
    const auto ranges = ranges_of(*kind);
    if (number < ranges.size()) { return Step{kind, &ranges[number]}; }
    number -= ranges.size();
  }
  return std::nullopt;
}

void Wanted::leave_out(const TreeLocks& tree)
{
  m_left = {};
  m_leaves_out = false;
  for (const KernelLock* const kind : kernel_locks(m_request.api)) {
    auto left = uncovered(tree, line_of(kind->kind, m_mode, m_request.range));
    const Range whole = kind->kind == LockLine::Kind::flock ? Range{0, 0} : m_request.range;
    if (left.size() == 1 && left.front() == whole) { continue; }
    m_left[index_of(*kind)] = std::move(left);
    m_leaves_out = true;
  }
  m_wants_slot = m_request.slots > 0 && slot_in_the_way(tree) == nullptr;
  m_leaves_out = m_leaves_out || (m_request.slots > 0 && !m_wants_slot);
}

bool Wanted::is_still_right(const Taken& taken, const TreeLocks& tree)
{
  leave_out(tree);
  return m_left == taken.parts && m_wants_slot == taken.slot.has_value();
}

// One that has a slot, if our ancestors have all of them between them.
const AncestorLock* Wanted::slot_in_the_way(const TreeLocks& tree) const
{
  const AncestorLock* found = nullptr;
  for (int slot = 0; slot < m_request.slots; ++slot) {
    const LockLine wanted = line_of(LockLine::Kind::ofd, Mode::exclusive, kernel::byte_of_slot(slot));
    if (!uncovered(tree, wanted).empty()) { return nullptr; }
    found = lockrun::in_the_way(tree, wanted);
  }
  return found;
}

const AncestorLock* Wanted::in_the_way(const TreeLocks& tree) const
{
  for (const KernelLock* const kind : kernel_locks(m_request.api)) {
    for (const Range& range : ranges_of(*kind)) {
      if (const auto* const lock = lockrun::in_the_way(tree, line_of(kind->kind, m_mode, range))) { return lock; }
    }
  }
  return m_wants_slot && !m_slot ? slot_in_the_way(tree) : nullptr;
}

bool Wanted::is_touched_by(const TreeLocks& tree) const
{
  const Range slots{kernel::byte_of_slot(0).start, m_request.slots};
  if (m_request.slots > 0 && lockrun::in_the_way(tree, line_of(LockLine::Kind::ofd, Mode::exclusive, slots))) {
    return true;
  }
  const auto kinds = kernel_locks(m_request.api);
  return std::any_of(kinds.begin(), kinds.end(), [&](const KernelLock* kind) {
    return lockrun::in_the_way(tree, line_of(kind->kind, Mode::exclusive, m_request.range)) != nullptr;
  });
}

Taken Wanted::taken() const
{
  bool has[2] = {};
  for (const KernelLock* const kind : kernel_locks(m_request.api)) { has[index_of(*kind)] = !ranges_of(*kind).empty(); }
  Taken taken;
  if (has[0] || has[1]) { taken.api = has[0] && has[1] ? Api::both : has[0] ? Api::flock : Api::ofd; }
  taken.is_complete = !m_leaves_out;
  taken.parts = m_left;
  taken.slot = m_slot;
  // The lock that the descriptor has had all the time is the ancestor's too that locked it.
  if (m_request.nested == Nested::run) { taken.before = m_before; }
  return taken;
}

bool Wanted::has_lost_shared() const
{
  const LockLine* const had = find_kind(m_before, LockLine::Kind::flock);
  if (had == nullptr || had->mode == Mode::exclusive) { return false; }
  const auto now = locks_of_caller(m_fd, m_request);
  return find_kind(now, LockLine::Kind::flock) == nullptr;
}

Result<void> unlock_but(
  const sys::Descriptor& fd, const KernelLock& kind, const Range& range, const std::vector<LockLine>& before)
{
  std::vector<LockLine> kept;
  const LockLine whole = line_of(kind.kind, Mode::shared, range);
  for (const LockLine& line : before) {
    const auto part = line.kind == kind.kind ? common_part(line, whole) : std::nullopt;
    if (!part) { continue; }
    kept.push_back(*part);
    // To turn an exclusive lock into a shared one, or to lock what is locked, needs no wait.
    (void)kind.lock(fd, line.mode, range_of(*part), Wait::never);
  }
  if (kept.empty()) { return kind.unlock(fd, range); }
  Result<void> result;
  for (const Range& part : uncovered(kept, whole)) {
    const auto unlocked = kind.unlock(fd, part);
    if (!unlocked && result) { result = unlocked; }
  }
  return result;
}

} // namespace lockrun
