#include "engines/lease.hpp"
#include "engines/session.hpp"
#include "protocol/protocol.hpp"

#include "support/eventually.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

// What engines have in common, with a backend that plays a script instead of asking a server.
namespace lockrun::testing {
namespace {

using namespace engines;
using std::chrono::hours;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Nothing is to be done for long.
Pace long_pace(hours life = hours(1))
{
  const Instant end = sys::elapsed_now() + life;
  return {end, end};
}

// The backend is to be called at once, and there is time for that.
Pace due_pace()
{
  return {sys::elapsed_now() + seconds(60), sys::elapsed_now()};
}

Pace ended_pace()
{
  return {sys::elapsed_now() - seconds(1), sys::elapsed_now()};
}

Standing held(const Pace& pace)
{
  return {true, 0, {}, {}, pace};
}

Standing waiting(std::int64_t position, const Pace& pace)
{
  Contender holder;
  holder.text = "somebody";
  holder.owner = Owner{"web1", 7, "root", "make", 0, "boot/1/9"};
  return {false, position, holder, {}, pace};
}

tl::unexpected<Failure> failure(const std::string& reason, const std::string& text = {})
{
  return tl::unexpected(Failure{69, reason, text});
}

tl::unexpected<Failure> loss(Instant sure_until)
{
  Failure lost{69, k_lost, "somebody took it"};
  lost.sure_until = sure_until;
  return tl::unexpected(lost);
}

// As it is sent.
std::string deadline(Instant moment)
{
  return " deadline=" + std::to_string(std::chrono::duration_cast<milliseconds>(moment).count());
}

class ScriptedBackend final : public Backend {
public:
  struct Answer {
    Result<Standing, Failure> outcome;
    Instant answered{0}; // not before
    int gate = -1;       // or not before this can be read
  };
  std::deque<Result<Standing, Failure>> joins;
  std::deque<Answer> answers;
  std::optional<std::string> left_behind;
  std::vector<std::string> calls;
  std::atomic<int> asked = 0; // how often proceed() has answered
  std::optional<Demand> demand;
  std::string token = "5";
  std::string epoch;
  UrlForm form = UrlForm::path;
  std::vector<const char*> parameter_names;
  std::optional<milliseconds> next_in; // after joining; otherwise as the pace says
  bool keeps_what_stirs = false;       // as a connection that is broken
  int stir = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int second = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); // another descriptor that brings news
  int may_leave = -1;                                    // or leave() waits for this

  ~ScriptedBackend() override
  {
    ::close(stir);
    ::close(second);
  }
  ScriptedBackend() = default;
  ScriptedBackend(const ScriptedBackend&) = delete;

  const char* name() const override { return "scripted"; }
  const char* abilities() const override { return "shared"; }
  const char* default_port() const override { return "1"; }
  UrlForm url_form() const override { return form; }
  std::span<const char* const> parameters() const override { return parameter_names; }
  Result<void, Failure> open(const Url& /*url*/) override { return {}; }
  Result<std::vector<Contender>, Failure> status() override
  {
    Contender holder;
    holder.token = "5";
    holder.owner = Owner{"web1", 7, "root", "make", 9};
    Contender waiter;
    waiter.waits = true;
    waiter.position = 1;
    waiter.mode = Mode::shared;
    return std::vector<Contender>{waiter, holder};
  }
  Result<Standing, Failure> join(const Demand& wanted, Instant) override
  {
    calls.emplace_back("join");
    demand = wanted;
    auto now = joins.front();
    joins.pop_front();
    if (now && next_in) { now->pace.next = sys::elapsed_now() + *next_in; }
    return now;
  }
  std::vector<::pollfd> interests() const override { return {{stir, POLLIN, 0}, {second, POLLIN, 0}}; }
  Result<Standing, Failure> proceed() override
  {
    calls.emplace_back("proceed");
    ::eventfd_t count = 0;
    if (!keeps_what_stirs) { (void)::eventfd_read(stir, &count); }
    (void)::eventfd_read(second, &count);
    auto now = answers.front();
    answers.pop_front();
    (void)eventually([&] { return sys::elapsed_now() >= now.answered; });
    if (now.gate >= 0) { (void)::eventfd_read(now.gate, &count); }
    ++asked;
    return std::move(now.outcome);
  }
  Ownership ownership() const override { return {token, "key", std::nullopt, hours(1), epoch}; }
  std::optional<std::string> leave() override
  {
    ::eventfd_t count = 0;
    if (may_leave >= 0) { (void)::eventfd_read(may_leave, &count); }
    calls.emplace_back("leave");
    return left_behind;
  }
};

class Sessions : public ::testing::Test {
protected:
  ~Sessions() override
  {
    hang_up();
    if (m_session.joinable()) { m_session.join(); }
  }

  void begin(const std::string& url = "scripted://host/lock", int version = 1)
  {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    m_socket = ends[0];
    m_session = std::thread([this, theirs = ends[1]] {
      auto attention = Attention::create(theirs);
      status = attention ? run_session(backend, *attention) : -1;
      ::close(theirs);
    });
    say("LOCKRUN version=" + std::to_string(version) + " url=" + url);
  }

  void acquire(const std::string& wishes = {})
  {
    begin();
    say("ACQUIRE " + wishes);
    EXPECT_THAT(hear(), StartsWith("ENGINE version=1 name=scripted can=shared"));
  }

  void say(const std::string& line) const
  {
    const std::string bytes = line + '\n';
    (void)!::send(m_socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

  // A line; empty at the end.
  std::string hear() const
  {
    std::string line;
    for (char c = 0; ::recv(m_socket, &c, 1, 0) == 1 && c != '\n';) { line += c; }
    return line;
  }

  // What has been said, as far as it is not heard yet.
  std::string unheard() const
  {
    std::string text(4096, '\0');
    text.resize(static_cast<std::size_t>(
      std::max<ssize_t>(::recv(m_socket, text.data(), text.size(), MSG_PEEK | MSG_DONTWAIT), 0)));
    return text;
  }

  void hang_up()
  {
    if (m_socket >= 0) { ::close(std::exchange(m_socket, -1)); }
  }

  // What the backend was asked to do, once the session has ended.
  const std::vector<std::string>& calls()
  {
    m_session.join();
    EXPECT_EQ(status, 0);
    return backend.calls;
  }

  ScriptedBackend backend;
  int status = -1;

private:
  int m_socket = -1;
  std::thread m_session;
};

TEST_F(Sessions, HoldAndGiveBack)
{
  backend.joins.emplace_back(held(long_pace()));
  acquire("mode=shared wait_ms=70 host=here pid=3 instance=x/2/3");
  EXPECT_THAT(hear(), StartsWith("HELD token=5 deadline="));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
  EXPECT_EQ(hear(), "");
  EXPECT_THAT(calls(), ElementsAre("join", "leave"));
  EXPECT_EQ(backend.demand->mode, Mode::shared);
  EXPECT_EQ(backend.demand->patience, milliseconds(70));
  EXPECT_EQ(backend.demand->owner.host, "here");
  EXPECT_EQ(backend.demand->owner.instance, "x/2/3");
}

TEST_F(Sessions, TellATokenThatIsTextAndItsEpoch)
{
  backend.token = "16/B374D848";
  backend.epoch = "7 1";
  backend.joins.emplace_back(held(long_pace()));
  acquire();
  EXPECT_THAT(hear(), ::testing::AllOf(StartsWith("HELD token=16/B374D848 "), ::testing::EndsWith(" epoch=7%201")));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
}

TEST_F(Sessions, RefuseATimeToLiveThatTheProtocolDoesNotCarry)
{
  acquire("ttl_ms=" + std::to_string(protocol::k_longest_ttl + 1));
  EXPECT_THAT(hear(), StartsWith("FAIL "));
}

TEST_F(Sessions, TakeTheLongestTimeToLive)
{
  backend.joins.emplace_back(held(long_pace()));
  acquire("ttl_ms=" + std::to_string(protocol::k_longest_ttl));
  EXPECT_THAT(hear(), StartsWith("HELD "));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
  EXPECT_EQ(calls().size(), 2U);
  EXPECT_EQ(backend.demand->ttl.count(), protocol::k_longest_ttl);
}

TEST_F(Sessions, CallTheBackendAtItsTimeWhileTheyHold)
{
  backend.joins.emplace_back(held(long_pace()));
  backend.next_in = seconds(2); // HELD is said by then
  backend.answers.push_back({held(long_pace(hours(2)))});
  acquire();
  EXPECT_THAT(hear(), StartsWith("HELD "));
  EXPECT_THAT(hear(), StartsWith("RENEWED "));
  EXPECT_TRUE(unheard().empty());
}

// What a renewal leaves to be cleaned up takes none of the time that it has won.
TEST_F(Sessions, SayThatItIsRenewedBeforeTheyCallTheBackendAgain)
{
  const int gate = ::eventfd(0, EFD_CLOEXEC);
  backend.joins.emplace_back(held(long_pace()));
  backend.answers.push_back({held({long_pace(hours(2)).sure_until, sys::elapsed_now()})});
  backend.answers.push_back({held(long_pace(hours(2))), Instant(0), gate});
  acquire();
  EXPECT_THAT(hear(), StartsWith("HELD "));
  (void)::eventfd_write(backend.stir, 1);
  EXPECT_THAT(hear(), StartsWith("RENEWED "));
  (void)::eventfd_write(gate, 1);
  say("RELEASE");
  ::close(gate);
}

TEST_F(Sessions, SayThatItIsRenewedOnlyWhenItIs)
{
  const Pace pace = long_pace();
  backend.joins.emplace_back(held(pace));
  backend.answers.push_back({held(pace)});
  backend.answers.push_back({held({pace.sure_until + hours(1), pace.next})});
  acquire();
  EXPECT_THAT(hear(), StartsWith("HELD "));
  (void)::eventfd_write(backend.stir, 1);
  ASSERT_TRUE(eventually([&] { return backend.asked == 1; }));
  (void)::eventfd_write(backend.second, 1); // any of them may bring news
  EXPECT_EQ(hear(), "RENEWED" + deadline(pace.sure_until + hours(1)));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
  EXPECT_THAT(calls(), ElementsAre("join", "proceed", "proceed", "leave"));
}

// A connection that is broken is ready all the time.
TEST_F(Sessions, AskLessAndLessOftenWhateverStirs)
{
  backend.keeps_what_stirs = true;
  (void)::eventfd_write(backend.stir, 1);
  backend.joins.emplace_back(waiting(1, long_pace()));
  for (int i = 0; i < 4; ++i) { backend.answers.push_back({failure("unreachable", "no server")}); }
  backend.answers.push_back({held(long_pace())});
  const Instant begin = sys::elapsed_now();
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_EQ(hear(), "TROUBLE text=no%20server");
  EXPECT_THAT(hear(), StartsWith("HELD "));
  EXPECT_GE(sys::elapsed_now() - begin, milliseconds(50 + 100 + 200 + 400)); // half of each pause is left to chance
  backend.keeps_what_stirs = false;
}

TEST_F(Sessions, RenewBeforeTheyHoldWhatIsNoLongerFresh)
{
  const Pace pace = long_pace();
  backend.joins.emplace_back(held(due_pace()));
  backend.answers.push_back({held(pace)});
  acquire();
  EXPECT_THAT(hear(), HasSubstr(deadline(pace.sure_until) + " ttl_ms=3600000 "));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
  EXPECT_THAT(calls(), ElementsAre("join", "proceed", "leave"));
}

TEST_F(Sessions, RenewSoonWhileTheyWait)
{
  backend.joins.emplace_back(waiting(2, {sys::elapsed_now() + hours(88), sys::elapsed_now() + milliseconds(1)}));
  backend.answers.push_back({waiting(1, long_pace())});
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING position=2 "));
  EXPECT_THAT(hear(), StartsWith("WAITING position=1 "));
}

TEST_F(Sessions, TellOfTheWaitWhenThereIsNews)
{
  backend.joins.emplace_back(waiting(2, due_pace()));
  backend.answers.push_back({waiting(2, due_pace())});
  backend.answers.push_back({waiting(1, long_pace())});
  backend.answers.push_back({held(long_pace())});
  acquire();
  EXPECT_EQ(hear(),
    "WAITING position=2 holder=somebody holder_mode=exclusive holder_host=web1 holder_pid=7 holder_user=root "
    "holder_command=make holder_since_ms=0 holder_instance=boot/1/9");
  EXPECT_THAT(hear(), StartsWith("WAITING position=1 "));
  (void)::eventfd_write(backend.stir, 1);
  EXPECT_THAT(hear(), StartsWith("HELD "));
}

// Not every server has a queue.
TEST_F(Sessions, WaitWithoutAPlaceThatIsKnown)
{
  backend.joins.emplace_back(waiting(0, due_pace()));
  backend.answers.push_back({held(long_pace())});
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING holder=somebody holder_mode=exclusive "));
  EXPECT_THAT(hear(), StartsWith("HELD "));
}

// One of them may be an ancestor of lockrun's.
TEST_F(Sessions, NameThoseNearbyBeforeTheOneWhoIsTold)
{
  Standing standing = waiting(1, long_pace());
  standing.nearby = {*standing.holder};
  standing.nearby[0].text = "neighbour";
  standing.nearby[0].mode = Mode::shared;
  standing.nearby[0].slot = 4;
  backend.joins.emplace_back(standing);
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING position=1 holder=neighbour holder_mode=shared holder_slot=4 "));
  EXPECT_THAT(hear(), StartsWith("WAITING position=1 holder=somebody holder_mode=exclusive holder_host="));
}

TEST_F(Sessions, SayWhoIsInTheWayAlsoWithoutWaiting)
{
  Failure busy{75, "busy", "it is held", "somebody", {}, waiting(1, long_pace())};
  backend.joins.emplace_back(tl::unexpected(busy));
  acquire("nonblock=1");
  EXPECT_THAT(hear(), StartsWith("WAITING position=1 holder=somebody "));
  EXPECT_EQ(hear(), "FAIL status=75 reason=busy text=it%20is%20held holder=somebody");
}

TEST_F(Sessions, JoinAgainWhenTheirPlaceIsLost)
{
  backend.joins.emplace_back(waiting(1, due_pace()));
  backend.answers.push_back({loss(Instant(0))});
  backend.joins.emplace_back(held(long_pace()));
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_THAT(hear(), StartsWith("HELD "));
}

TEST_F(Sessions, JoinAgainWhenNobodyCouldBeReachedUntilTheLeaseEnded)
{
  backend.joins.emplace_back(waiting(1, ended_pace()));
  backend.answers.push_back({failure("unreachable", "no etcd")});
  backend.joins.emplace_back(held(long_pace()));
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_EQ(hear(), "TROUBLE text=no%20etcd");
  EXPECT_THAT(hear(), StartsWith("HELD "));
}

TEST_F(Sessions, GoOnAfterAnInterruption)
{
  backend.joins.emplace_back(failure(k_interrupted));
  backend.joins.emplace_back(waiting(1, due_pace()));
  backend.answers.push_back({failure(k_interrupted)});
  backend.answers.push_back({held(long_pace())});
  backend.answers.push_back({failure(k_interrupted)});
  backend.answers.push_back({held(long_pace(hours(2)))});
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_THAT(hear(), StartsWith("HELD "));
  (void)::eventfd_write(backend.stir, 1);
  EXPECT_THAT(hear(), StartsWith("RENEWED "));
}

TEST_F(Sessions, RideOutErrorsAndComplainOnceForEachTime)
{
  backend.joins.emplace_back(waiting(1, due_pace()));
  backend.answers.push_back({held(long_pace())});
  for (int time = 0; time < 2; ++time) {
    backend.answers.push_back({failure("unreachable", "no etcd")});
    backend.answers.push_back({failure("unreachable", "still none")});
    backend.answers.push_back({held(long_pace(hours(2 + time)))});
  }
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_THAT(hear(), StartsWith("HELD "));
  for (int time = 0; time < 2; ++time) {
    (void)::eventfd_write(backend.stir, 1);
    EXPECT_EQ(hear(), "TROUBLE text=no%20etcd");
    EXPECT_THAT(hear(), StartsWith("RENEWED deadline="));
  }
}

TEST_F(Sessions, SayWhatIsLostAndGiveTheRestBack)
{
  backend.joins.emplace_back(waiting(1, due_pace()));
  backend.answers.push_back({held(long_pace())});
  const Instant before = sys::elapsed_now();
  backend.answers.push_back({loss(before)});
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_THAT(hear(), StartsWith("HELD "));
  (void)::eventfd_write(backend.stir, 1);
  EXPECT_EQ(hear(), "LOST reason=somebody%20took%20it" + deadline(before));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
  EXPECT_THAT(calls(), ElementsAre("join", "proceed", "proceed", "leave"));
}

// Whatever a server says then, others may have had it.
TEST_F(Sessions, ReviveNothing)
{
  for (const bool is_renewed : {true, false}) {
    SCOPED_TRACE(is_renewed);
    ScriptedBackend& script = backend;
    script.joins.emplace_back(waiting(1, due_pace()));
    const Instant end = sys::elapsed_now() + seconds(4); // HELD is read by then
    script.answers.push_back({held({end, end})});
    if (is_renewed) { script.answers.push_back({held(long_pace()), end}); }
    if (!is_renewed) { script.answers.push_back({failure("unreachable", "no etcd"), end}); }
    acquire();
    EXPECT_THAT(hear(), StartsWith("WAITING "));
    EXPECT_THAT(hear(), StartsWith("HELD "));
    const std::string reason = is_renewed ? "it%20was%20renewed%20too%20late" : "no%20etcd";
    EXPECT_EQ(hear(), "LOST reason=" + reason + deadline(end));
    hang_up();
    (void)calls();
  }
}

// It is stopped, and cannot tell when nothing runs under the lock any more.
TEST_F(Sessions, RenewNothingForALockrunThatDoesNotListen)
{
  backend.joins.emplace_back(waiting(1, due_pace()));
  const Instant end = sys::elapsed_now() + seconds(4); // HELD is said by then
  backend.answers.push_back({held({end, end})});
  backend.answers.push_back({held(long_pace())});
  begin();
  say("ACQUIRE");
  EXPECT_TRUE(eventually([&] { return unheard().find("LOST ") != std::string::npos; }));
  EXPECT_THAT(hear(), StartsWith("ENGINE "));
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_THAT(hear(), StartsWith("HELD "));
  EXPECT_EQ(hear(), "LOST reason=it%20was%20not%20renewed,%20because%20nobody%20listened" + deadline(end));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
  EXPECT_THAT(calls(), ElementsAre("join", "proceed", "leave"));
}

TEST_F(Sessions, LeaveTheQueueWhenLockrunIsGone)
{
  backend.joins.emplace_back(waiting(1, long_pace()));
  acquire();
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  hang_up();
  EXPECT_THAT(calls(), ElementsAre("join", "leave"));
}

// The command may still run.
TEST_F(Sessions, GiveNothingBackUntold)
{
  for (const bool is_told : {true, false}) {
    SCOPED_TRACE(is_told);
    backend.calls.clear();
    backend.joins.emplace_back(held(long_pace()));
    acquire();
    EXPECT_THAT(hear(), StartsWith("HELD "));
    if (is_told) { say("ABANDON"); }
    if (!is_told) { hang_up(); }
    EXPECT_THAT(calls(), ElementsAre("join"));
    hang_up();
  }
}

TEST_F(Sessions, GiveUpInTime)
{
  backend.joins.emplace_back(waiting(1, long_pace()));
  acquire("wait_ms=1");
  EXPECT_THAT(hear(), StartsWith("WAITING "));
  EXPECT_EQ(hear(), "FAIL status=75 reason=timed_out text=it%20was%20not%20ours%20in%20time holder=somebody");
  EXPECT_THAT(calls(), ElementsAre("join", "leave"));
}

TEST_F(Sessions, SayWhyThereIsNoLock)
{
  backend.joins.emplace_back(failure("tls", "no trust"));
  acquire();
  EXPECT_EQ(hear(), "FAIL status=69 reason=tls text=no%20trust");
  EXPECT_THAT(calls(), ElementsAre("join", "leave"));
}

// Leaving takes its time where no server answers, and lockrun would find us silent.
TEST_F(Sessions, SayWhyThereIsNoLockBeforeTheyLeave)
{
  const int may_leave = ::eventfd(0, EFD_CLOEXEC);
  backend.may_leave = may_leave;
  backend.joins.emplace_back(failure("unreachable", "no etcd"));
  acquire();
  EXPECT_EQ(hear(), "FAIL status=69 reason=unreachable text=no%20etcd");
  (void)::eventfd_write(may_leave, 1);
  EXPECT_THAT(calls(), ElementsAre("join", "leave"));
  ::close(may_leave);
}

TEST_F(Sessions, SayWhatTheyLeaveBehind)
{
  backend.joins.emplace_back(held(long_pace()));
  backend.left_behind = "a key";
  acquire();
  EXPECT_THAT(hear(), StartsWith("HELD "));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED text=a%20key");
}

TEST_F(Sessions, TellWhoHoldsAndWhoWaits)
{
  begin();
  say("STATUS");
  (void)hear();
  EXPECT_EQ(hear(), "HOLDER mode=exclusive token=5 text= host=web1 pid=7 user=root command=make since_ms=9");
  EXPECT_EQ(hear(), "WAITER position=1 mode=shared text=");
  EXPECT_EQ(hear(), "END");
  EXPECT_EQ(hear(), "");
}

TEST_F(Sessions, PassOverWhatTheyDoNotUnderstand)
{
  begin();
  say("=");
  say("SING loudly=1");
  say("STATUS");
  (void)hear();
  EXPECT_THAT(hear(), StartsWith("HOLDER "));
}

TEST_F(Sessions, RefuseAUrlWithoutAName)
{
  for (const UrlForm form : {UrlForm::path, UrlForm::fragment}) {
    backend.form = form;
    begin("scripted://host");
    EXPECT_THAT(hear(), StartsWith("ENGINE "));
    EXPECT_EQ(hear(), "FAIL status=64 reason=usage text=the%20URL%20names%20no%20lock hint=scripted://HOST:1" +
                        std::string(form == UrlForm::path ? "/NAME" : "#NAME"));
    hang_up();
    EXPECT_THAT(calls(), ElementsAre());
  }
}

TEST_F(Sessions, RefuseAParameterThatTheBackendDoesNotHave)
{
  backend.parameter_names = {"tls", "key"};
  begin("scripted://host/lock?ttl=9s&tls=no&publish=a&sauce=1");
  EXPECT_THAT(hear(), StartsWith("ENGINE "));
  EXPECT_EQ(hear(), "FAIL status=64 reason=usage text=scripted%20has%20no%20parameter%20'sauce' "
                    "hint=there%20are%20ttl=,%20tls=,%20key=%20and%20publish=");
}

TEST_F(Sessions, RefuseATimeToLiveThatLeavesNoTimeToRenew)
{
  acquire("ttl_ms=1999");
  EXPECT_EQ(hear(), "FAIL status=64 reason=usage text=ttl=1999ms%20leaves%20no%20time%20to%20renew%20the%20lease "
                    "hint=it%20is%202s%20at%20least");
  EXPECT_THAT(calls(), ElementsAre());
}

TEST_F(Sessions, ChooseATimeToLiveWhereTheUserHasNot)
{
  backend.joins.emplace_back(held(long_pace()));
  acquire();
  EXPECT_THAT(hear(), StartsWith("HELD "));
  say("RELEASE");
  EXPECT_EQ(hear(), "RELEASED");
  EXPECT_EQ(calls().size(), 2U);
  EXPECT_EQ(backend.demand->ttl, k_default_ttl);
}

TEST_F(Sessions, RefuseAnotherVersionOfTheProtocol)
{
  begin("scripted://host/lock", 2);
  EXPECT_THAT(hear(), StartsWith("FAIL status=76 reason=refused "));
}

} // namespace
} // namespace lockrun::testing
