#include "child/tree.hpp"

#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <csignal>
#include <functional>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using child::Delivery;
using child::Tree;

// Everything here happens in a fork of the test, which becomes a subreaper; its own children end with `leash`.
void in_a_subreaper(const std::function<bool(Pipe& leash)>& body)
{
  Forked subreaper([&] {
    if (!sys::become_subreaper()) { return 1; }
    Pipe leash;
    return body(leash) ? 0 : 2;
  });
  EXPECT_EQ(subreaper.wait(), exited(0));
}

// A child of ours; with `deeper` it forks as often before it stays.
pid_t start_staying(Pipe& leash, int deeper = 0)
{
  const Notice ready;
  const pid_t child = ::fork();
  if (child == 0) {
    leash.close_write();
    for (; deeper > 0; --deeper) {
      if (::fork() != 0) { break; } // the parent stays too
    }
    if (deeper == 0) { ready.give(); }
    char byte = 0;
    (void)!::read(leash.read_end, &byte, 1);
    ::_exit(0);
  }
  (void)ready.await();
  return child;
}

bool contains(const std::vector<sys::ProcessStatus>& members, pid_t pid)
{
  return std::any_of(members.begin(), members.end(), [pid](const auto& member) { return member.pid == pid; });
}

TEST(Tree, IsEmptyAtFirst)
{
  in_a_subreaper([](Pipe&) {
    const auto tree = Tree::before_start();
    return tree && !tree->has_strangers() && tree->members()->empty() && tree->children().empty();
  });
}

TEST(Tree, HasAllGenerationsParentsFirst)
{
  in_a_subreaper([](Pipe& leash) {
    const auto tree = Tree::before_start();
    const pid_t child = start_staying(leash, 3);
    const auto members = tree->members();
    if (members->size() != 4 || members->front().pid != child) { return false; }
    for (std::size_t i = 1; i < members->size(); ++i) {
      if ((*members)[i].parent != (*members)[i - 1].pid) { return false; }
    }
    return tree->children() == std::vector<pid_t>{child};
  });
}

TEST(Tree, HasOrphansInSessionsOfTheirOwn)
{
  in_a_subreaper([](Pipe& leash) {
    const auto tree = Tree::before_start();
    const pid_t child = start_staying(leash, 1);
    const auto before = tree->members();
    const pid_t orphan = before->back().pid;
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto after = tree->members();
    return after->size() == 1 && after->front().pid == orphan && after->front().parent == ::getpid();
  });
}

TEST(Tree, LeavesOutWhatItIsTold)
{
  in_a_subreaper([](Pipe& leash) {
    auto tree = Tree::before_start();
    const pid_t other = start_staying(leash);
    tree->leave_out(other);
    const pid_t child = start_staying(leash);
    if (!tree->has_strangers() || tree->children() != std::vector<pid_t>{child}) { return false; }
    const auto members = tree->members();
    return members->size() == 1 && contains(*members, child);
  });
}

TEST(Tree, LeavesZombiesOutOfItsMembersOnly)
{
  in_a_subreaper([](Pipe& leash) {
    const auto tree = Tree::before_start();
    const pid_t child = start_staying(leash);
    leash.close_write();
    if (!eventually([&] { return tree->members()->empty(); })) { return false; }
    return tree->children() == std::vector<pid_t>{child}; // until it is reaped
  });
}

TEST(Send, ReachesTheProcessThatWasSeenOnly)
{
  in_a_subreaper([](Pipe& leash) {
    const Tree tree;
    const pid_t child = start_staying(leash);
    auto member = tree.members()->front();
    ++member.start; // another one of this number
    if (child::send(member, SIGKILL) != Delivery::gone || tree.members()->size() != 1) { return false; }
    --member.start;
    if (child::send(member, SIGKILL) != Delivery::sent) { return false; }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) && child::send(member, SIGKILL) == Delivery::gone;
  });
}

TEST(Send, IsRefusedByAnotherUsersProcess)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  in_a_subreaper([](Pipe& leash) {
    const Tree tree;
    start_staying(leash);
    const auto member = tree.members()->front();
    hostile::become_user(k_nobody)();
    return child::send(member, SIGKILL) == Delivery::refused;
  });
}

} // namespace
} // namespace lockrun::testing
