#include "sys/channel.hpp"

#include "sys/memory.hpp"
#include "sys/process.hpp"
#include "sys/program.hpp"
#include "sys/signal.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <span>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>

namespace lockrun::sys {
namespace {

std::span<const std::byte> bytes_of(const std::string& text)
{
  return std::as_bytes(std::span(text));
}

std::string taken(const Descriptor& socket)
{
  std::array<std::byte, 100> room{};
  const auto count = receive(socket, room);
  return count ? std::string(reinterpret_cast<const char*>(room.data()), *count) : "error";
}

TEST(Channel, CarriesBytesAndTheirEnd)
{
  auto pair = socket_pair(SocketKind::stream);
  ASSERT_TRUE(pair);
  std::array<std::byte, 1> room{};
  EXPECT_EQ(receive(pair->ours, room).error().code, EAGAIN);
  EXPECT_EQ(send(pair->theirs, bytes_of("ab")), 2U);
  EXPECT_EQ(send(pair->theirs, bytes_of("c")), 1U);
  EXPECT_EQ(taken(pair->ours), "abc");
  (void)send(pair->ours, bytes_of("unread"));
  pair->theirs = Descriptor();
  EXPECT_EQ(taken(pair->ours), "");
  EXPECT_EQ(send(pair->ours, bytes_of("x")).error().code, EPIPE); // and no SIGPIPE
}

TEST(Channel, KeepsPacketsApart)
{
  const auto pair = socket_pair(SocketKind::packets);
  ASSERT_TRUE(pair);
  (void)send(pair->theirs, bytes_of("ab"));
  (void)send(pair->theirs, bytes_of("c"));
  EXPECT_EQ(taken(pair->ours), "ab");
  EXPECT_EQ(taken(pair->ours), "c");
}

TEST(Channel, NeverBlocksWhenNobodyReads)
{
  const auto pair = socket_pair(SocketKind::packets);
  ASSERT_TRUE(pair);
  auto sent = send(pair->ours, bytes_of("x"));
  while (sent) { sent = send(pair->ours, bytes_of("x")); }
  EXPECT_EQ(sent.error().code, EAGAIN);
}

TEST(WaitReadable, NamesTheSourcesAndPassesOverClosedOnes)
{
  const auto one = socket_pair(SocketKind::stream);
  const auto two = socket_pair(SocketKind::stream);
  ASSERT_TRUE(one && two);
  const Descriptor closed;
  EXPECT_EQ(wait_readable({&one->ours, &closed, &two->ours}, std::chrono::nanoseconds(0)), 0U);
  (void)send(two->theirs, bytes_of("x"));
  EXPECT_EQ(wait_readable({&one->ours, &closed, &two->ours}, std::nullopt), 4U);
  (void)send(one->theirs, bytes_of("x"));
  EXPECT_EQ(wait_readable({&one->ours, &closed, &two->ours}, std::nullopt), 5U);
}

TEST(SignalDescriptor, TellsWhichSignalAndWhoSentIt)
{
  const SignalSet before = block_signals({SIGUSR1});
  const auto signals = signal_descriptor({SIGUSR1});
  ASSERT_TRUE(signals);
  EXPECT_FALSE(read_signal(*signals).value());
  ASSERT_TRUE(kill(process_id(), SIGUSR1));
  EXPECT_EQ(wait_readable({&*signals}, std::nullopt), 1U);
  const auto signal = read_signal(*signals).value();
  ASSERT_TRUE(signal);
  EXPECT_EQ(signal->number, SIGUSR1);
  EXPECT_EQ(signal->sender, process_id());
  EXPECT_EQ(signal->origin, SI_USER);
  (void)set_signal_mask(before);
}

TEST(SharedMemory, IsTheSameInAFork)
{
  const auto memory = shared_memory(sizeof(int));
  ASSERT_TRUE(memory);
  auto* const number = static_cast<volatile int*>(*memory);
  EXPECT_EQ(*number, 0);
  const auto child = sys::fork();
  ASSERT_TRUE(child);
  if (*child == 0) {
    *number = parent_process() > 0 ? 7 : 8;
    exit_now(0);
  }
  ASSERT_TRUE(wait_child(*child, WEXITED));
  EXPECT_EQ(*number, 7);
}

TEST(Channel, KnowsWhetherAllIsRead)
{
  const auto pair = socket_pair(SocketKind::stream);
  ASSERT_TRUE(pair);
  EXPECT_EQ(unread(pair->ours), 0U);
  (void)send(pair->ours, bytes_of("one\n"));
  (void)send(pair->ours, bytes_of("two\n"));
  EXPECT_GT(unread(pair->ours).value(), 0U);
  EXPECT_EQ(unread(pair->theirs), 0U);
  std::array<std::byte, 4> room{};
  EXPECT_EQ(receive(pair->theirs, room), 4U);
  EXPECT_GT(unread(pair->ours).value(), 0U);
  EXPECT_EQ(receive(pair->theirs, room), 4U);
  EXPECT_EQ(unread(pair->ours), 0U);
}

TEST(Program, CanTalkOnItsStandardStreams)
{
  const auto pair = socket_pair(SocketKind::stream);
  ASSERT_TRUE(pair);
  std::string shell = "sh";
  std::string option = "-c";
  std::string script = "read line; echo $line";
  char* const argv[] = {shell.data(), option.data(), script.data(), nullptr};
  Program program{};
  program.file = argv[0];
  program.argv = argv;
  program.talks_to = &pair->theirs;
  const auto child = start(program);
  ASSERT_TRUE(child);
  (void)send(pair->ours, bytes_of("hello\n"));
  ASSERT_EQ(wait_readable({&pair->ours}, std::nullopt), 1U);
  EXPECT_EQ(taken(pair->ours).substr(0, 5), "hello");
  ASSERT_TRUE(wait_child(child->pid(), WEXITED));
}

} // namespace
} // namespace lockrun::sys
