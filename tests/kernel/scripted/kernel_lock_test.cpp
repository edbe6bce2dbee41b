#include "kernel/kernel_lock.hpp"

#include "support/fake_sys.hpp"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using kernel::KernelLock;
using sys::Attempt;
using ::testing::ElementsAre;

class Backend : public ::testing::TestWithParam<const KernelLock*> {
protected:
  // The functions of src/sys that it stands on.
  std::string lock_function() const { return GetParam() == &kernel::k_flock ? "flock" : "ofd_lock"; }
  std::string unlock_function() const { return GetParam() == &kernel::k_flock ? "flock_unlock" : "ofd_unlock"; }

  FakeSys kernel;
  const sys::Descriptor fd{};
};

TEST_P(Backend, PassesOnWhatTheKernelAnswers)
{
  for (const Attempt answer : {Attempt::acquired, Attempt::busy, Attempt::interrupted}) {
    kernel.answers(lock_function(), answer);
    EXPECT_EQ(GetParam()->lock(fd, Mode::shared, {}, Wait::allowed), answer);
  }
}

TEST_P(Backend, PassesOnEveryErrnoAfterOneCall)
{
  for (const int code : {EBADF, EIO, ENOLCK, EINVAL, EDEADLK}) {
    kernel.fails(lock_function(), code);
    EXPECT_EQ(GetParam()->lock(fd, Mode::exclusive, {}, Wait::never).error().code, code);
    kernel.fails(unlock_function(), code);
    EXPECT_EQ(GetParam()->unlock(fd, {}).error().code, code);
  }
  EXPECT_EQ(kernel.calls().size(), 10U);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Backend, ::testing::Values(&kernel::k_flock, &kernel::k_ofd),
  [](const auto& kind) { return kind.param->name; });

TEST(Flock, AsksForTheKindAndLeavesTheRangeOut)
{
  FakeSys kernel;
  (void)kernel::k_flock.lock({}, Mode::shared, {1, 2}, Wait::allowed);
  (void)kernel::k_flock.lock({}, Mode::exclusive, {1, 2}, Wait::never);
  EXPECT_THAT(kernel.calls(), ElementsAre("flock(shared, allowed)", "flock(exclusive, never)"));
}

TEST(Ofd, AsksForTheKindAndTheRange)
{
  FakeSys kernel;
  (void)kernel::k_ofd.lock({}, Mode::shared, {1, 2}, Wait::allowed);
  (void)kernel::k_ofd.unlock({}, {3, 4});
  EXPECT_THAT(kernel.calls(), ElementsAre("ofd_lock(shared, 1+2, allowed)", "ofd_unlock(3+4)"));
}

TEST(KernelLocks, AreTakenFlockFirst)
{
  EXPECT_THAT(kernel::kernel_locks(Api::flock), ElementsAre(&kernel::k_flock));
  EXPECT_THAT(kernel::kernel_locks(Api::ofd), ElementsAre(&kernel::k_ofd));
  EXPECT_THAT(kernel::kernel_locks(Api::both), ElementsAre(&kernel::k_flock, &kernel::k_ofd));
}

TEST(Range, OfEveryLockrunStaysBelowTheQueue)
{
  EXPECT_EQ(Range().start, 0);
  EXPECT_EQ(Range().length, std::int64_t{1} << 62);
}

} // namespace
} // namespace lockrun::testing
