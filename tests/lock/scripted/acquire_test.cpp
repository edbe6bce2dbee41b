#include "support/fake_sys.hpp"
#include "sys/file.hpp"
#include "sys/lock.hpp"

#include <lockrun/lock.hpp>

#include <cerrno>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {

std::ostream& operator<<(std::ostream& out, const Error& error)
{
  return out << "reason " << static_cast<int>(error.reason) << ", " << (error.cause.call ? error.cause.call : "-")
             << " " << error.cause.code;
}

namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using sys::Attempt;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Every test leaves as many open descriptors as there were, and uses every answer that it wrote down.
class Acquire : public ::testing::Test {
protected:
  Acquire() { request.path = "/x"; }
  ~Acquire() override
  {
    EXPECT_EQ(open_descriptors(), descriptors_before);
    EXPECT_EQ(kernel.unused_answers(), 0U);
  }

  Error error_of(const LockRequest& wanted)
  {
    auto lock = acquire(wanted, {});
    EXPECT_FALSE(lock);
    return lock ? Error{} : lock.error();
  }

  const int descriptors_before = open_descriptors();
  FakeSys kernel;
  LockRequest request;
};

sys::FileStatus another_file(sys::FileType type = sys::FileType::regular)
{
  sys::FileStatus status;
  status.identity = {1, 2};
  status.type = type;
  return status;
}

// Which number the next descriptor gets. The program that runs the tests may have left more than three open.
int lowest_free_descriptor()
{
  return sys::Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)).get();
}

constexpr const char* k_plain_open = "open('/x', O_RDONLY|O_NONBLOCK)";
constexpr const char* k_creating_open = "open('/x', O_RDONLY|O_CREAT|O_NONBLOCK, 0666)";

// --- opening ---

TEST_F(Acquire, OfAFreeLockOpensTriesAndLooksWhatThePathNames)
{
  request.patience = nanoseconds(0);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls(), ElementsAre("stat('/x')", k_plain_open, "fstat()", "flock(exclusive, never)",
                                "stat('/x')", "wall_now()", "seek(0)"));
}

TEST_F(Acquire, CreatesOnlyWhatIsMissing)
{
  kernel.fails("stat", ENOENT);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_creating_open));
}

TEST_F(Acquire, CreatesWhatIsRemovedBeforeItIsOpened)
{
  kernel.fails("open", ENOENT);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, k_creating_open));
}

TEST_F(Acquire, CreatesWithExactlyTheModeThatWasAskedFor)
{
  request.file.mode = 0600;
  kernel.fails("stat", ENOENT);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre("open('/', O_WRONLY|O_TMPFILE|O_DIRECTORY)", k_plain_open));
  EXPECT_THAT(kernel.calls("change_mode"), ElementsAre("change_mode(0600)"));
  EXPECT_THAT(kernel.calls("link"), ElementsAre("link('/x')"));
}

TEST_F(Acquire, CreatesWithExactlyTheModeWhereAFileCannotBeMadeWithoutAName)
{
  request.file.mode = 0600;
  kernel.fails("stat", ENOENT);
  kernel.fails("open", EOPNOTSUPP);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre("open('/', O_WRONLY|O_TMPFILE|O_DIRECTORY)",
                                      "open('/x', O_WRONLY|O_CREAT|O_EXCL|O_NONBLOCK, 0600)", k_plain_open));
  EXPECT_THAT(kernel.calls("change_mode"), ElementsAre("change_mode(0600)"));
}

TEST_F(Acquire, NeverChangesTheModeOfAFileThatSomebodyElseMade)
{
  request.file.mode = 0600;
  kernel.fails("stat", ENOENT);
  kernel.fails("open", EOPNOTSUPP);
  kernel.fails("open", EEXIST);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("change_mode"), IsEmpty());
  EXPECT_EQ(kernel.calls("open").back(), k_plain_open);
}

TEST_F(Acquire, RemovesTheFileWhoseModeCannotBeSet)
{
  request.file.mode = 0600;
  kernel.fails("stat", ENOENT);
  kernel.fails("open", EOPNOTSUPP);
  kernel.fails("change_mode", EPERM);
  EXPECT_EQ(error_of(request).cause.code, EPERM);
  EXPECT_THAT(kernel.calls("unlink"), ElementsAre("unlink('/x')"));
}

TEST_F(Acquire, NeverCreatesWhenItMayNot)
{
  request.file.create = false;
  kernel.fails("open", ENOENT);
  EXPECT_EQ(error_of(request).reason, Reason::missing);
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open));
}

class NoSuchFile : public Acquire, public ::testing::WithParamInterface<int> {};

TEST_P(NoSuchFile, IsMissingWhereItMayNotBeMadeAndAFailureWhereItMay)
{
  kernel.fails("open", GetParam());
  if (GetParam() == ENOENT) { kernel.fails("open", ENOENT); }
  EXPECT_EQ(error_of(request).reason, Reason::open_failed);
  request.file.create = false;
  kernel.fails("open", GetParam());
  EXPECT_EQ(error_of(request).reason, Reason::missing);
}
INSTANTIATE_TEST_SUITE_P(Table, NoSuchFile, ::testing::Values(ENOENT, ENOTDIR, ENAMETOOLONG, EROFS),
  [](const auto& code) { return ::strerrorname_np(code.param); });

TEST_F(Acquire, DoesNotFollowALinkWhenItMayNot)
{
  request.file.follow = false;
  kernel.fails("open", ELOOP);
  EXPECT_EQ(error_of(request).cause.code, ELOOP);
  EXPECT_THAT(kernel.calls("open"), ElementsAre("open('/x', O_RDONLY|O_NONBLOCK|O_NOFOLLOW)"));
}

TEST_F(Acquire, OpensWhatAnotherUserHasJustMadeInAStickyDirectory)
{
  kernel.fails("open", ENOENT);
  kernel.fails("open", EACCES); // fs.protected_regular
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, k_creating_open, k_plain_open));
}

TEST_F(Acquire, SaysThatItMayNotCreateThere)
{
  kernel.fails("open", ENOENT);
  kernel.fails("open", EACCES);
  kernel.fails("open", ENOENT);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::open_failed);
  EXPECT_EQ(error.cause.code, EACCES);
}

TEST_F(Acquire, OpensForWritingOnlyWhatNeedsIt)
{
  request.api = Api::ofd;
  request.mode = Mode::shared;
  ASSERT_TRUE(acquire(request, {}));
  request.mode = Mode::exclusive;
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, "open('/x', O_RDWR|O_NONBLOCK)"));
}

TEST_F(Acquire, RefusesWhatIsNeitherFileNorDirectory)
{
  kernel.answers("fstat", another_file(sys::FileType::other));
  EXPECT_EQ(error_of(request).reason, Reason::wrong_type);
  EXPECT_THAT(kernel.calls("flock"), IsEmpty());
}

TEST_F(Acquire, RefusesItBeforeItIsOpened)
{
  kernel.answers("stat", another_file(sys::FileType::other));
  EXPECT_EQ(error_of(request).reason, Reason::wrong_type);
  EXPECT_THAT(kernel.calls("open"), IsEmpty());
}

TEST_F(Acquire, TakesADevice)
{
  for (const char* const function : {"stat", "fstat", "stat"}) {
    kernel.answers(function, another_file(sys::FileType::device));
  }
  EXPECT_TRUE(acquire(request, {}));
  request.fair = true;
  kernel.answers("stat", another_file(sys::FileType::device));
  EXPECT_EQ(error_of(request).reason, Reason::wrong_type);
}

TEST_F(Acquire, RefusesADeviceThatOpeningItSetsOff)
{
  constexpr dev_t k_first_tape = 9U << 8U;
  sys::FileStatus watchdog = another_file(sys::FileType::device);
  watchdog.is_character_device = true;
  sys::FileStatus tape = watchdog;
  tape.special = k_first_tape;
  kernel.answers("device_class", std::string("watchdog"));
  kernel.answers("stat", watchdog);
  EXPECT_EQ(error_of(request).reason, Reason::harmful_device);
  kernel.answers("stat", tape);
  EXPECT_EQ(error_of(request).reason, Reason::harmful_device);
  EXPECT_THAT(kernel.calls("open"), IsEmpty());
  tape.special |= 128U; // it does not rewind
  for (const char* const function : {"stat", "fstat", "stat"}) { kernel.answers(function, tape); }
  EXPECT_TRUE(acquire(request, {}));
}

TEST_F(Acquire, RefusesADirectoryThatItCannotOpenForWriting)
{
  request.api = Api::ofd;
  kernel.fails("open", EISDIR);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::wrong_type);
  EXPECT_EQ(error.cause.code, EISDIR);
}

TEST_F(Acquire, FindsNoDirectoryThatItCannotMake)
{
  kernel.fails("open", ENOENT);
  kernel.fails("open", EISDIR);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::open_failed);
  EXPECT_EQ(error.cause.code, ENOENT);
}

TEST_F(Acquire, OpensForWritingAloneWhatMayNotBeRead)
{
  request.api = Api::ofd;
  kernel.fails("open", EACCES);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre("open('/x', O_RDWR|O_NONBLOCK)", "open('/x', O_WRONLY|O_NONBLOCK)"));
  request.fair = true; // who queues reads
  kernel.fails("open", EACCES);
  EXPECT_EQ(error_of(request).cause.code, EACCES);
}

TEST_F(Acquire, SaysWhatIsWrongWithADevice)
{
  for (const int code : {ENXIO, ENODEV}) {
    kernel.fails("open", code);
    const Error error = error_of(request);
    EXPECT_EQ(error.reason, Reason::open_failed);
    EXPECT_EQ(error.cause.code, code);
  }
}

// --- a lease ---

TEST_F(Acquire, WaitsForALeaseInABlockingOpen)
{
  kernel.fails("open", EWOULDBLOCK);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, "open('/x', O_RDONLY)"));
  EXPECT_THAT(kernel.calls("start_thread"), SizeIs(0)); // nothing is to end the wait
}

TEST_F(Acquire, WatchesTheClockBesideABlockingOpen)
{
  request.patience = std::chrono::hours(1);
  kernel.fails("open", EWOULDBLOCK);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, "open('/x', O_RDONLY)"));
  EXPECT_THAT(kernel.calls("join"), SizeIs(1));
}

TEST_F(Acquire, DoesNotCallALeaseBusy)
{
  request.patience = nanoseconds(0);
  kernel.fails("open", EWOULDBLOCK);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::open_failed);
  EXPECT_EQ(error.cause.code, EAGAIN);
  EXPECT_THAT(kernel.calls("open"), SizeIs(1));
}

TEST_F(Acquire, SaysWhatFailedBehindALease)
{
  kernel.fails("open", EWOULDBLOCK);
  kernel.fails("open", EIO);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::open_failed);
  EXPECT_EQ(error.cause.code, EIO);
}

// --- locking ---

TEST_F(Acquire, FailsAtOnceWhenBusyAndNotToWait)
{
  request.patience = nanoseconds(0);
  kernel.answers("flock", Attempt::busy);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::busy);
  EXPECT_EQ(error.target, "/x");
  EXPECT_THAT(kernel.calls("start_thread"), IsEmpty());
}

TEST_F(Acquire, QueuesWhenBusy)
{
  kernel.answers("flock", Attempt::busy);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("flock"), ElementsAre("flock(exclusive, never)", "flock(exclusive, allowed)"));
}

TEST_F(Acquire, QueuesAgainWhenNobodyMeantTheInterruption)
{
  kernel.answers("flock", Attempt::busy);
  kernel.answers("flock", Attempt::interrupted);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("flock"), SizeIs(3));
}

TEST_F(Acquire, OpensForWritingOnceWhenTheFileSystemWantsThat)
{
  kernel.fails("flock", EBADF);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, "open('/x', O_RDWR|O_NONBLOCK)"));
}

TEST_F(Acquire, OpensForWritingWhenTheFileSystemCallsItAnInputError)
{
  kernel.fails("flock", EIO);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, "open('/x', O_RDWR|O_NONBLOCK)"));
  kernel.fails("flock", EIO);
  kernel.fails("flock", EIO);
  EXPECT_EQ(error_of(request).cause.code, EIO);
}

TEST_F(Acquire, SaysWhatTheLockSaidWhereItMayNotOpenForWriting)
{
  for (const int code : {EPERM, EROFS}) {
    kernel.fails("flock", EBADF);
    kernel.succeeds("open");
    kernel.fails("open", code);
    const Error error = error_of(request);
    EXPECT_EQ(error.reason, Reason::lock_failed);
    EXPECT_EQ(error.cause.code, EBADF);
  }
  kernel.fails("flock", EBADF);
  kernel.succeeds("open");
  kernel.fails("open", ETXTBSY);
  EXPECT_EQ(error_of(request).reason, Reason::open_failed);
}

TEST_F(Acquire, OpensForWritingOnlyOnce)
{
  kernel.fails("flock", EBADF);
  kernel.fails("flock", EBADF);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::lock_failed);
  EXPECT_EQ(error.cause.code, EBADF);
  EXPECT_THAT(kernel.calls("open"), SizeIs(2));
}

TEST_F(Acquire, OpensForWritingWhenThatShowsInTheQueue)
{
  kernel.answers("flock", Attempt::busy);
  kernel.fails("flock", EBADF);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("flock"), SizeIs(3));
  EXPECT_THAT(kernel.calls("open"), SizeIs(2));
}

TEST_F(Acquire, TakesBothLocksInOneOrder)
{
  request.api = Api::both;
  request.range = {5, 10};
  {
    auto lock = acquire(request, {});
    ASSERT_TRUE(lock);
    ASSERT_TRUE(lock->release());
  }
  EXPECT_THAT(kernel.calls(),
    ElementsAre("steady_now()", "stat('/x')", "open('/x', O_RDWR|O_NONBLOCK)", "fstat()", "flock(exclusive, never)",
      "ofd_lock(exclusive, 5+10, never)", "stat('/x')", "wall_now()", "seek(0)", "flock_unlock()", "ofd_unlock(5+10)"));
}

class LockErrno : public Acquire, public ::testing::WithParamInterface<int> {};

TEST_P(LockErrno, IsReportedAtOnceWhenTrying)
{
  kernel.fails("flock", GetParam());
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::lock_failed);
  EXPECT_EQ(error.cause.code, GetParam());
  EXPECT_THAT(kernel.calls("flock"), SizeIs(1));
}

TEST_P(LockErrno, IsReportedAtOnceInTheQueue)
{
  request.api = Api::ofd;
  kernel.answers("ofd_lock", Attempt::busy);
  kernel.fails("ofd_lock", GetParam());
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::lock_failed);
  EXPECT_EQ(error.cause.code, GetParam());
  EXPECT_THAT(kernel.calls("ofd_lock"), SizeIs(2));
}

INSTANTIATE_TEST_SUITE_P(Table, LockErrno,
  ::testing::Values(ENOLCK, ETIMEDOUT, ENOSYS, EOPNOTSUPP, EINVAL, EDEADLK, EPERM, EACCES, ENOMEM),
  [](const auto& code) { return ::strerrorname_np(code.param); });

// What a file server has lost (ESTALE): with the clock that stands still, it is lost again at once.

TEST_F(Acquire, OpensALostFileAgain)
{
  kernel.fails("flock", ESTALE);
  const auto lock = acquire(request, {});
  ASSERT_TRUE(lock);
  EXPECT_THAT(kernel.calls("open"), SizeIs(2));
}

TEST_F(Acquire, ReportsAFileThatIsLostAgainAtOnce)
{
  kernel.fails("flock", ESTALE);
  kernel.fails("flock", ESTALE);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::lock_failed);
  EXPECT_EQ(error.cause.code, ESTALE);
  EXPECT_THAT(kernel.calls("flock"), SizeIs(2));
}

// --- a descriptor of the caller's ---

TEST_F(Acquire, OfADescriptorLeavesTheCallersOpen)
{
  request.fd = 0;
  const std::string copy = std::to_string(lowest_free_descriptor());
  {
    const auto lock = acquire(request, {});
    ASSERT_TRUE(lock);
  }
  ASSERT_TRUE(unlock(request));
  EXPECT_THAT(
    kernel.calls(), ElementsAre("steady_now()", "duplicate(0, 3)", "process_id()", "locks_of(0, " + copy + ")",
                      "flock(exclusive, never)", "duplicate(0, 3)", "flock_unlock()"));
}

TEST_F(Acquire, NamesADescriptorThatIsNotOpenAsTheFault)
{
  request.fd = 9;
  kernel.fails("duplicate", EBADF);
  EXPECT_EQ(error_of(request).reason, Reason::bad_descriptor);
  kernel.fails("duplicate", EBADF);
  EXPECT_EQ(unlock(request).error().reason, Reason::bad_descriptor);
}

TEST_F(Acquire, NamesADescriptorThatIsNotOpenInTheRightWayAsTheFault)
{
  request.fd = 9;
  request.api = Api::ofd;
  kernel.fails("ofd_lock", EBADF);
  EXPECT_EQ(error_of(request).reason, Reason::bad_descriptor);
  EXPECT_THAT(kernel.calls("open"), IsEmpty());
}

TEST_F(Acquire, LeavesNoHalfOfBothWithTheCallersDescriptor)
{
  request.fd = 9;
  request.api = Api::both;
  request.patience = nanoseconds(0);
  kernel.answers("ofd_lock", Attempt::busy);
  EXPECT_EQ(error_of(request).reason, Reason::busy);
  EXPECT_THAT(kernel.calls("flock_unlock"), SizeIs(1));
  EXPECT_THAT(kernel.calls("ofd_unlock"), IsEmpty());
}

TEST_F(Acquire, ReportsWhatUnlockingSays)
{
  request.fd = 9;
  kernel.fails("flock_unlock", ENOLCK);
  const auto unlocked = unlock(request);
  ASSERT_FALSE(unlocked);
  EXPECT_EQ(unlocked.error().reason, Reason::lock_failed);
}

// --- what the path names afterwards ---

TEST_F(Acquire, StartsAgainWhenTheFileWasReplaced)
{
  kernel.succeeds("stat");
  for (int i = 0; i < 3; ++i) { kernel.answers("stat", another_file()); }
  kernel.succeeds("fstat");
  kernel.answers("fstat", another_file());
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), SizeIs(2));
  EXPECT_THAT(kernel.calls("flock"), SizeIs(2));
}

TEST_F(Acquire, StartsAgainWhenTheFileWasRemoved)
{
  kernel.succeeds("stat");
  kernel.fails("stat", ENOENT);
  kernel.fails("stat", ENOENT);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre(k_plain_open, k_creating_open));
}

TEST_F(Acquire, FailsWhenThePathCanNoLongerBeLookedAt)
{
  kernel.succeeds("stat");
  kernel.fails("stat", EACCES);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::open_failed);
  EXPECT_STREQ(error.cause.call, "stat");
}

TEST_F(Acquire, KeepsItsDeadlineWhenItStartsAgain)
{
  request.patience = seconds(5);
  kernel.answers("steady_now", nanoseconds(seconds(1)));
  for (const auto now : {seconds(3), seconds(6)}) {
    kernel.succeeds("stat");
    kernel.fails("stat", ENOENT);
    kernel.answers("steady_now", nanoseconds(now));
  }
  EXPECT_EQ(error_of(request).reason, Reason::timed_out);
  EXPECT_THAT(kernel.calls("flock"), SizeIs(2));
}

TEST_F(Acquire, DoesNotStartAgainForEverWhenItDoesNotWait)
{
  request.patience = nanoseconds(0);
  for (const auto now : {seconds(3), seconds(3), seconds(4)}) {
    kernel.succeeds("stat");
    kernel.fails("stat", ENOENT);
    kernel.answers("steady_now", nanoseconds(now));
  }
  EXPECT_EQ(error_of(request).reason, Reason::busy);
  EXPECT_THAT(kernel.calls("flock"), SizeIs(3));
}

// --- a failure of each call on the way ---

struct Step {
  const char* function;
  Reason reason;
};
constexpr Step k_steps[] = {
  {"open", Reason::open_failed},
  {"fstat", Reason::open_failed},
  {"flock", Reason::lock_failed},
  {"stat", Reason::open_failed},
};
class EveryStep : public Acquire, public ::testing::WithParamInterface<Step> {};

TEST_P(EveryStep, IsReportedWithItsCall)
{
  const std::string function = GetParam().function;
  request.patience = std::chrono::hours(1); // a wait with a helper
  const bool first_try_fails = function == "flock";
  if (first_try_fails) {
    kernel.fails(function, ENOLCK);
  } else {
    kernel.answers("flock", Attempt::busy);                // so that it waits
    if (function == "stat") { kernel.succeeds(function); } // before it is opened, where open(2) says it better
    kernel.fails(function, ENOLCK);
    if (function == "open" || function == "fstat") { kernel.take("flock", ""); } // not reached
  }
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, GetParam().reason);
  EXPECT_EQ(error.cause.code, ENOLCK);
  EXPECT_EQ(error.cause.call, function);
  EXPECT_EQ(error.target, "/x");
}

INSTANTIATE_TEST_SUITE_P(
  Table, EveryStep, ::testing::ValuesIn(k_steps), [](const auto& step) { return step.param.function; });

// Each call is repeated already where it is made, a few times. An interruption that is not ours may come more often.
class Interrupted : public Acquire, public ::testing::WithParamInterface<Step> {
protected:
  Interrupted() { request.fair = true; }
  void is_interrupted(int times)
  {
    for (int i = 0; i < times; ++i) {
      const bool is_last_step = GetParam().function == std::string("stat");
      for (int opened = 0; is_last_step && opened < 2; ++opened) { kernel.succeeds("stat"); } // for lock and queue
      kernel.fails(GetParam().function, EINTR);
    }
  }
};

TEST_P(Interrupted, TriesAgainUntilThereIsAnAnswer)
{
  constexpr int k_times = 20;
  is_interrupted(k_times);
  EXPECT_TRUE(acquire(request, {}));
  EXPECT_GT(kernel.calls(GetParam().function).size(), std::size_t{k_times});
}

TEST_P(Interrupted, GivesUpInTime)
{
  request.patience = seconds(10);
  for (const int now : {0, 9, 10}) { kernel.answers("steady_now", nanoseconds(seconds(now))); }
  is_interrupted(2);
  EXPECT_EQ(error_of(request).reason, Reason::timed_out);
}

TEST_P(Interrupted, IsReportedAfterASecondWhenItDoesNotWait)
{
  request.patience = nanoseconds(0);
  for (const int now : {3, 4}) { kernel.answers("steady_now", nanoseconds(seconds(now))); }
  is_interrupted(2);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, GetParam().reason);
  EXPECT_EQ(error.cause.code, EINTR);
}

constexpr Step k_interruptible_steps[] = {
  {"open", Reason::open_failed},
  {"fstat", Reason::open_failed},
  {"file_system_type", Reason::lock_failed},
  {"posix_conflict", Reason::lock_failed},
  {"flock", Reason::lock_failed},
  {"stat", Reason::open_failed},
};
INSTANTIATE_TEST_SUITE_P(
  Table, Interrupted, ::testing::ValuesIn(k_interruptible_steps), [](const auto& step) { return step.param.function; });

TEST_F(Acquire, TriesAgainWithADescriptorOfTheCallers)
{
  request.fd = 0;
  kernel.fails("duplicate", EINTR);
  kernel.fails("flock", EINTR);
  EXPECT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("duplicate"), SizeIs(3));
}

TEST_F(Acquire, WaitsWithoutAThreadWhereThereIsNone)
{
  for (const char* const refused : {"set_interrupting", "start_thread"}) {
    request.patience = std::chrono::hours(1);
    kernel.answers("flock", Attempt::busy);
    kernel.fails(refused, EPERM); // for the first step
    kernel.fails(refused, EPERM); // for the wait
    EXPECT_TRUE(acquire(request, {}));
  }
  EXPECT_THAT(kernel.calls("restore_action"), SizeIs(2));
  EXPECT_THAT(kernel.calls("set_signal_mask"), SizeIs(2));
  EXPECT_THAT(kernel.calls("~Interruption"), SizeIs(2));
}

TEST_F(Acquire, FailsWhereTheClockCannotBeWatchedAtAll)
{
  request.patience = std::chrono::hours(1);
  kernel.answers("flock", Attempt::busy);
  kernel.fails("start_thread", EAGAIN);
  kernel.fails("start_thread", EAGAIN);
  kernel.fails("Interruption::create", EAGAIN);
  const Error error = error_of(request);
  EXPECT_EQ(error.reason, Reason::start_failed);
  EXPECT_EQ(error.cause.code, EAGAIN);
}

// --- release ---

TEST_F(Acquire, ReleaseReportsTheFirstFailureAndFreesTheRest)
{
  request.api = Api::both;
  auto lock = acquire(request, {});
  ASSERT_TRUE(lock);
  kernel.fails("flock_unlock", EIO);
  const auto released = lock->release();
  ASSERT_FALSE(released);
  EXPECT_EQ(released.error().reason, Reason::lock_failed);
  EXPECT_EQ(released.error().cause.code, EIO);
  EXPECT_THAT(kernel.calls("ofd_unlock"), SizeIs(1));
  EXPECT_TRUE(lock->holds().empty());
}

TEST_F(Acquire, ReleaseReportsAFileThatItCannotRemoveUnlessItIsStillLocked)
{
  request.file.unlink = true;
  for (const bool is_unlocked : {true, false}) {
    auto lock = acquire(request, {});
    ASSERT_TRUE(lock);
    kernel.fails("unlink", EPERM);
    if (!is_unlocked) { kernel.fails("flock_unlock", EIO); }
    const auto released = lock->release();
    ASSERT_FALSE(released);
    EXPECT_EQ(released.error().reason, is_unlocked ? Reason::not_removed : Reason::lock_failed);
    EXPECT_EQ(released.error().target, "/x");
  }
  EXPECT_THAT(kernel.calls("flock_unlock"), SizeIs(2));
}

} // namespace
} // namespace lockrun::testing
