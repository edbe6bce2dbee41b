#include "sys/channel.hpp"
#include "sys/clock.hpp"
#include "sys/poller.hpp"

#include <array>

#include <gtest/gtest.h>
#include <poll.h>

namespace lockrun::testing {
namespace {

using Woken = sys::Poller::Woken;

TEST(Poller, WaitsUntilAMomentOfTheElapsedClock)
{
  const auto poller = sys::Poller::create();
  ASSERT_TRUE(poller);
  const auto moment = sys::elapsed_now() + std::chrono::milliseconds(5);
  EXPECT_EQ(poller->wait({}, moment), Woken::by_time);
  EXPECT_GE(sys::elapsed_now(), moment);
}

TEST(Poller, DoesNotWaitForAMomentThatHasPassed)
{
  const auto poller = sys::Poller::create();
  ASSERT_TRUE(poller);
  EXPECT_EQ(poller->wait({}, sys::elapsed_now()), Woken::by_time);
  EXPECT_EQ(poller->wait({}, std::chrono::nanoseconds(0)), Woken::by_time);
}

TEST(Poller, PrefersWhatIsReadyAndPassesOverWhatIsNotOpen)
{
  const auto poller = sys::Poller::create();
  auto pair = sys::socket_pair(sys::SocketKind::stream);
  ASSERT_TRUE(poller && pair);
  std::array<::pollfd, 2> descriptors{{{pair->ours.get(), POLLOUT, 0}, {-1, POLLIN, 0}}};
  EXPECT_EQ(poller->wait(descriptors, std::chrono::nanoseconds(0)), Woken::by_descriptor);
  EXPECT_EQ(descriptors[0].revents, POLLOUT);
  EXPECT_EQ(descriptors[1].revents, 0);
  descriptors[0].events = POLLIN;
  EXPECT_EQ(poller->wait(descriptors, std::chrono::nanoseconds(0)), Woken::by_time);
}

TEST(Poller, TakesSixteenDescriptors)
{
  const auto poller = sys::Poller::create();
  ASSERT_TRUE(poller);
  std::array<::pollfd, 17> descriptors{};
  for (::pollfd& one : descriptors) { one.fd = -1; }
  EXPECT_EQ(poller->wait(std::span(descriptors).first(16), std::chrono::nanoseconds(0)), Woken::by_time);
  EXPECT_EQ(poller->wait(descriptors, std::chrono::nanoseconds(0)).error().code, EINVAL);
}

} // namespace
} // namespace lockrun::testing
