#include "support/fake_sys.hpp"

#include <lockrun/lock.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::ElementsAre;

class Acquire : public ::testing::Test {
protected:
  FakeSys kernel;
};

TEST_F(Acquire, OpensWithoutCreatingFirst)
{
  LockRequest request;
  request.path = "/x";
  const auto lock = acquire(request, {});
  ASSERT_TRUE(lock);
  EXPECT_THAT(kernel.calls("open"), ElementsAre("open('/x', O_RDONLY|O_NONBLOCK)"));
}

} // namespace
} // namespace lockrun::testing
