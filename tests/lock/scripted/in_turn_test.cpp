#include "kernel/queue.hpp"
#include "support/fake_sys.hpp"
#include "sys/lock.hpp"

#include <lockrun/lock.hpp>

#include <cerrno>
#include <cstdint>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using sys::Attempt;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr const char* k_whole_queue = "posix_conflict(exclusive, 4611687117939015680+0)";

class InTurn : public ::testing::Test {
protected:
  InTurn()
  {
    request.path = "/x";
    request.fair = true;
  }
  Error error() const
  {
    const auto lock = acquire(request, {});
    EXPECT_FALSE(lock);
    return lock ? Error{} : lock.error();
  }

  FakeSys kernel;
  LockRequest request;
};

TEST_F(InTurn, WhereNobodyQueuesItCostsLittle)
{
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre("open('/x', O_RDWR|O_NONBLOCK)", "open('/x', O_RDONLY|O_NONBLOCK)"));
  EXPECT_THAT(kernel.calls("file_system_type"), ElementsAre("file_system_type()"));
  EXPECT_THAT(kernel.calls("posix_conflict"), ElementsAre(k_whole_queue));
  EXPECT_THAT(kernel.calls("flock"), ElementsAre("flock(exclusive, never)"));
  EXPECT_THAT(kernel.calls("posix_lock"), IsEmpty());
}

TEST_F(InTurn, ASlotCostsOneMore)
{
  request.slots = 4;
  const auto lock = acquire(request, {});
  ASSERT_TRUE(lock);
  EXPECT_EQ(lock->slot(), 0);
  EXPECT_THAT(kernel.calls("ofd_lock"), ElementsAre("ofd_lock(exclusive, 4611686018428436480+1, never)"));
  EXPECT_THAT(kernel.calls("flock"), ElementsAre("flock(shared, never)"));
  EXPECT_THAT(kernel.calls("posix_lock"), IsEmpty());
}

TEST_F(InTurn, ASlotIsGivenBackWhenTheLockIsBusy)
{
  request.slots = 4;
  request.patience = std::chrono::nanoseconds(0);
  kernel.answers("ofd_lock", Attempt::busy);
  kernel.answers("flock", Attempt::busy);
  EXPECT_EQ(error().reason, Reason::busy);
  EXPECT_THAT(kernel.calls("ofd_unlock"), ElementsAre("ofd_unlock(4611686018428436481+1)"));
}

TEST_F(InTurn, SomebodyWhoQueuesIsReasonEnoughNotToTry)
{
  request.patience = std::chrono::nanoseconds(0);
  kernel.answers("posix_conflict", std::optional<sys::Conflict>({Mode::exclusive, {kernel::k_queue, 1}, 1}));
  EXPECT_EQ(error().reason, Reason::busy);
  EXPECT_THAT(kernel.calls("flock"), IsEmpty());
}

// Opening and closing another descriptor would cost the place.
TEST_F(InTurn, NothingIsOpenedOrClosedBetweenEnteringAndLeaving)
{
  kernel.answers("flock", Attempt::busy);
  ASSERT_TRUE(acquire(request, {}));
  EXPECT_THAT(kernel.calls("open"), ElementsAre("open('/x', O_RDWR|O_NONBLOCK)", "open('/x', O_RDONLY|O_NONBLOCK)"));
  EXPECT_THAT(kernel.calls("posix_lock"),
    ElementsAre("posix_lock(exclusive, 4611686018427387904+1, allowed)", // the door
      "posix_lock(exclusive, 4611687117939015680+1, never)"));           // the queue's first byte
  EXPECT_THAT(kernel.calls("posix_unlock"),
    ElementsAre("posix_unlock(4611686018427387904+1)", "posix_unlock(4611687117939015680+1)"));
  EXPECT_THAT(kernel.calls("flock"), ElementsAre("flock(exclusive, never)", "flock(exclusive, allowed)"));
}

TEST_F(InTurn, ACircleThatTheKernelSeesIsAnError)
{
  kernel.answers("flock", Attempt::busy);
  kernel.fails("posix_lock", EDEADLK);
  const Error failure = error();
  EXPECT_EQ(failure.reason, Reason::lock_failed);
  EXPECT_EQ(failure.cause.code, EDEADLK);
}

TEST_F(InTurn, WithoutAThreadForEachSlotItLooksAgain)
{
  request.slots = 2;
  for (int i = 0; i < 4; ++i) { kernel.answers("ofd_lock", Attempt::busy); }
  kernel.fails("start_thread", EAGAIN);
  const auto lock = acquire(request, {});
  ASSERT_TRUE(lock);
  EXPECT_EQ(lock->slot(), 0);
  EXPECT_THAT(kernel.calls("start_thread"), ::testing::SizeIs(1));
}

// --- file systems on which flock and fcntl locks see each other: stand-ins that only have their numbers ---

struct FileSystem {
  const char* name;
  std::uint32_t type;
};
class Merged : public ::testing::TestWithParam<FileSystem> {};

TEST_P(Merged, AreRefusedBeforeAnythingIsLocked)
{
  for (const auto& ask_for : std::vector<void (*)(LockRequest&)>{[](LockRequest& r) { r.fair = true; },
         [](LockRequest& r) { r.slots = 2; }, [](LockRequest& r) { r.max_waiters = 1; }}) {
    FakeSys kernel;
    kernel.answers("file_system_type", GetParam().type);
    LockRequest request;
    request.path = "/x";
    ask_for(request);
    const auto lock = acquire(request, {});
    ASSERT_FALSE(lock);
    EXPECT_EQ(lock.error().reason, Reason::lock_failed);
    EXPECT_EQ(lock.error().cause.code, EOPNOTSUPP);
    EXPECT_THAT(kernel.calls("flock"), IsEmpty());
    EXPECT_THAT(kernel.calls("ofd_lock"), IsEmpty());
    EXPECT_THAT(kernel.calls("posix_lock"), IsEmpty());
  }
}
INSTANTIATE_TEST_SUITE_P(StandIns, Merged,
  ::testing::Values(FileSystem{"Nfs", 0x6969}, FileSystem{"Cifs", 0xFF534D42}, FileSystem{"Smb2", 0xFE534D42},
    FileSystem{"Plan9", 0x01021997}, FileSystem{"Afs", 0x5346414F}, FileSystem{"Lustre", 0x0BD00BD0}),
  [](const auto& row) { return row.param.name; });

} // namespace
} // namespace lockrun::testing
