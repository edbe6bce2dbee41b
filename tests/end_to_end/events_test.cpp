// --events: what happened to a call, for programs. Every event that is read here is held against the manual's schema.
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include "sys/descriptor.hpp"

#include <climits>
#include <csignal>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using Words = std::vector<std::string>;

// --- the schema ---

enum class Type { text, number, integer, object, boolean };
struct Field {
  const char* name;
  Type type;
  enum class Null { never, allowed } null;
};
using enum Field::Null;

bool has_type(const json& value, Type type)
{
  switch (type) {
  case Type::text:
    return value.is_string() && !value.get<std::string>().empty();
  case Type::number:
    return value.is_number() && value >= 0;
  case Type::integer:
    return value.is_number_integer() && value >= 0;
  case Type::object:
    return value.is_object();
  case Type::boolean:
    break;
  }
  return value.is_boolean();
}

void expect_fields(const json& object, const std::vector<Field>& fields)
{
  EXPECT_EQ(object.size(), fields.size()) << object;
  for (const Field& field : fields) {
    ASSERT_TRUE(object.contains(field.name)) << field.name << " in " << object;
    const json& value = object.at(field.name);
    EXPECT_TRUE((field.null == allowed && value.is_null()) || has_type(value, field.type)) << field.name << object;
  }
}

void expect_moment(const json& moment)
{
  EXPECT_THAT(
    moment.get<std::string>(), MatchesRegex("20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z"));
}

void expect_valid_holder(const json& holder)
{
  expect_fields(
    holder, {{"pid", Type::integer, allowed}, {"user", Type::text, allowed}, {"command", Type::text, allowed},
              {"api", Type::text, never}, {"since", Type::text, allowed}, {"since_kind", Type::text, allowed},
              {"held_s", Type::number, allowed}, {"mode", Type::text, never}, {"slot", Type::integer, allowed},
              {"evidence", Type::text, never}});
  if (!holder.at("since").is_null()) { expect_moment(holder.at("since")); }
}

void expect_valid(const json& event)
{
  std::vector<Field> fields{{"event", Type::text, never}, {"time", Type::text, never}, {"lock", Type::text, never},
    {"pid", Type::integer, never}, {"command", Type::text, allowed}};
  const std::map<std::string, std::vector<Field>> others{
    {"waiting", {{"waits_for", Type::text, never}}},
    {"acquired", {{"waited_s", Type::number, never}, {"mode", Type::text, never}, {"slot", Type::integer, allowed}}},
    {"lost", {{"error", Type::text, never}}},
    {"overtime", {{"limit_s", Type::number, never}, {"signal", Type::text, never}}},
    {"finished", {{"outcome", Type::text, never}, {"exit_code", Type::integer, never}, {"signal", Type::text, allowed},
                   {"waited_s", Type::number, never}, {"held_s", Type::number, allowed},
                   {"holder", Type::object, allowed}, {"error", Type::text, allowed}}},
  };
  const std::string name = event.at("event");
  ASSERT_EQ(others.count(name), 1U) << name;
  fields.insert(fields.end(), others.at(name).begin(), others.at(name).end());
  expect_fields(event, fields);
  expect_moment(event.at("time"));
  if (name == "finished" && !event.at("holder").is_null()) { expect_valid_holder(event.at("holder")); }
}

// Each line is one valid event.
std::vector<json> events_in(const std::string& text)
{
  std::vector<json> events;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    events.push_back(json::parse(line, nullptr, false));
    EXPECT_FALSE(events.back().is_discarded()) << line;
    if (events.back().is_discarded()) { return {}; }
    expect_valid(events.back());
  }
  return events;
}

Words names_of(const std::vector<json>& events)
{
  Words names;
  for (const json& event : events) { names.push_back(event.at("event")); }
  return names;
}

// --- calls ---

class Events : public ::testing::Test {
protected:
  Finished lockrun(const Words& arguments, const Start& start = {}) const
  {
    Words words{"--events", file};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_lockrun(words, start);
  }
  std::vector<json> events() const { return events_in(read_file(file)); }
  // The last one, which says how it ended.
  json finished() const
  {
    const auto all = events();
    if (all.empty() || all.back().at("event") != "finished") {
      ADD_FAILURE() << read_file(file);
      return json{{"outcome", ""}};
    }
    return all.back();
  }

  const TempDir dir;
  const std::string path = dir / "lock";
  const std::string file = dir / "events";
};

TEST_F(Events, OfACallThatRan)
{
  EXPECT_EQ(lockrun({path, "sh", "-c", "exit 3"}).status, exited(3));
  const auto all = events();
  ASSERT_THAT(names_of(all), ElementsAre("acquired", "finished"));
  for (const json& event : all) {
    EXPECT_EQ(event.at("lock"), path);
    EXPECT_EQ(event.at("command"), "sh -c exit 3");
    EXPECT_EQ(event.at("pid"), all[0].at("pid"));
  }
  EXPECT_EQ(all[0].at("mode"), "exclusive");
  EXPECT_TRUE(all[0].at("slot").is_null());
  EXPECT_EQ(all[1].at("outcome"), "ran");
  EXPECT_EQ(all[1].at("exit_code"), 3);
  EXPECT_TRUE(all[1].at("signal").is_null());
  EXPECT_TRUE(all[1].at("held_s").is_number());
  EXPECT_TRUE(all[1].at("holder").is_null());
  EXPECT_TRUE(all[1].at("error").is_null());
  EXPECT_LE(all[0].at("time"), all[1].at("time"));
}

TEST_F(Events, OfACommandThatASignalEnded)
{
  EXPECT_EQ(lockrun({path, "sh", "-c", "kill -KILL $$"}).status, exited(137));
  EXPECT_EQ(finished().at("outcome"), "ran");
  EXPECT_EQ(finished().at("exit_code"), 137);
  EXPECT_EQ(finished().at("signal"), "SIGKILL");
}

TEST_F(Events, OfABusyLock)
{
  const HoldingProcess holder(path);
  EXPECT_EQ(lockrun({"-nE", "9", path, "true"}).status, exited(9));
  EXPECT_THAT(names_of(events()), ElementsAre("finished"));
  const json end = finished();
  EXPECT_EQ(end.at("outcome"), "busy");
  EXPECT_EQ(end.at("exit_code"), 9);
  EXPECT_EQ(end.at("holder").at("pid"), holder.pid());
  EXPECT_TRUE(end.at("held_s").is_null());
}

TEST_F(Events, OfABusyLockWithoutAWord)
{
  const HoldingProcess holder(path);
  EXPECT_EQ(lockrun({"-qn", path, "true"}).err, "");
  EXPECT_EQ(finished().at("holder").at("pid"), holder.pid());
}

TEST_F(Events, OfAWaitThatWasTooLong)
{
  const HoldingProcess holder(path);
  std::vector<json> all;
  ASSERT_TRUE(eventually([&] { // one without a processor for so long has not looked for the holder
    std::filesystem::remove(file);
    EXPECT_EQ(lockrun({"-w", "10ms", path, "true"}).status, exited(75));
    all = events();
    return !all.empty() && !all.back().at("holder").is_null();
  }));
  ASSERT_THAT(names_of(all), ElementsAre("waiting", "finished"));
  EXPECT_EQ(all[0].at("waits_for"), path);
  EXPECT_EQ(all[1].at("outcome"), "timed_out");
  EXPECT_GE(all[1].at("waited_s"), 0.01);
  EXPECT_EQ(all[1].at("holder").at("pid"), holder.pid());
}

TEST_F(Events, OfAWaitThatWasWorthIt)
{
  HoldingProcess holder(path);
  Process process(lockrun_argv({"--events", file, path, "true"}));
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  EXPECT_THAT(names_of(events()), ElementsAre("waiting"));
  holder.release();
  EXPECT_EQ(process.wait().status, exited(0));
  EXPECT_THAT(names_of(events()), ElementsAre("waiting", "acquired", "finished"));
}

TEST_F(Events, OfAnInterruptedWait)
{
  const HoldingProcess holder(path);
  Process process(lockrun_argv({"--events", file, path, "true"}));
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, killed(SIGTERM));
  EXPECT_EQ(finished().at("outcome"), "interrupted");
  EXPECT_EQ(finished().at("exit_code"), 143);
  EXPECT_EQ(finished().at("signal"), "SIGTERM");
}

TEST_F(Events, OfANestedCall)
{
  const auto told = run_lockrun({path, lockrun_binary(), "--events", file, path, "true"});
  EXPECT_EQ(told.status, exited(75));
  EXPECT_EQ(finished().at("outcome"), "deadlock");
  EXPECT_EQ(finished().at("error"), "an ancestor holds the lock");
}

TEST_F(Events, OfACircle)
{
  Start start;
  start.in = start.out = k_pipe;
  const std::string script = "echo held; read go; exec '" + lockrun_binary() + "' --events '" + file + "' \"$0\" true";
  Process one(lockrun_argv({dir / "a", "sh", "-c", script, dir / "b"}), start);
  Process other(lockrun_argv({dir / "b", "sh", "-c", script, dir / "a"}), start);
  ASSERT_EQ(one.out_line(), "held");
  ASSERT_EQ(other.out_line(), "held");
  one.write("\n");
  other.write("\n");
  (void)one.wait();
  (void)other.wait();
  int circles = 0;
  for (const json& event : events()) {
    if (event.at("event") != "finished" || event.at("outcome") == "ran") { continue; }
    EXPECT_EQ(event.at("outcome"), "deadlock");
    EXPECT_EQ(event.at("error"), "2 processes wait for one another in a circle");
    EXPECT_EQ(event.at("exit_code"), 75);
    ++circles;
  }
  EXPECT_EQ(circles, 1);
}

TEST_F(Events, OfALockThatWasHeldTooLong)
{
  EXPECT_EQ(lockrun({"--max-hold", "50ms", path, "sleep", "1000"}).status, exited(124));
  const auto all = events();
  ASSERT_THAT(names_of(all), ElementsAre("acquired", "overtime", "finished"));
  EXPECT_EQ(all[1].at("limit_s"), 0.05);
  EXPECT_EQ(all[1].at("signal"), "SIGTERM");
  EXPECT_EQ(all[2].at("outcome"), "overtime");
  EXPECT_EQ(all[2].at("exit_code"), 124);
  EXPECT_EQ(all[2].at("signal"), "SIGTERM");
  EXPECT_GE(all[2].at("held_s"), 0.05);
}

TEST_F(Events, OfALockWhoseHolderHadToBeKilled)
{
  Start start;
  start.before_exec = {hostile::ignore(SIGTERM)};
  EXPECT_EQ(lockrun({"--max-hold", "50ms", "-k", "1ms", path, "sleep", "1000"}, start).status, exited(137));
  EXPECT_EQ(finished().at("outcome"), "overtime");
}

TEST_F(Events, OfACommandThatCannotBeRun)
{
  EXPECT_EQ(lockrun({path, "no-such-command"}).status, exited(127));
  EXPECT_EQ(lockrun({"-F", path, "no-such-command"}).status, exited(127));
  EXPECT_EQ(lockrun({path, dir.path().string()}).status, exited(126));
  const auto all = events();
  ASSERT_THAT(names_of(all), ElementsAre("acquired", "finished", "acquired", "finished", "acquired", "finished"));
  for (const std::size_t i : {1U, 3U, 5U}) { EXPECT_EQ(all[i].at("outcome"), "exec_failed"); }
  EXPECT_THAT(all[1].at("error"), HasSubstr("No such file or directory (ENOENT)"));
  EXPECT_EQ(all[5].at("exit_code"), 126);
}

TEST_F(Events, OfALockThatCannotBeHad)
{
  EXPECT_EQ(lockrun({dir / "missing" / "lock", "true"}).status, exited(73));
  EXPECT_EQ(finished().at("outcome"), "failed");
  EXPECT_EQ(finished().at("error"), "open: No such file or directory (ENOENT)");
  const std::string fifo = dir / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(lockrun({fifo, "true"}).status, exited(77));
  EXPECT_EQ(finished().at("error"), "neither a file, a directory nor a device");
}

// So that it goes into a pipe in one piece, whatever bytes are in it (pipe(7)).
TEST_F(Events, HaveAtMostPipeBufBytes)
{
  const std::string bytes(200, '\x01');
  std::filesystem::path place = dir.path();
  for (int i = 0; i < 10; ++i) { place /= bytes; }
  std::filesystem::create_directories(place);
  const std::string lock = place / "\xff\"";
  const std::string argument(2000, '\x02');
  Process holder(lockrun_argv({lock, "sh", "-c", "read line", argument}), [] {
    Start start;
    start.in = k_pipe;
    return start;
  }());
  ASSERT_TRUE(eventually([&] { return is_stamped(lock); }));
  EXPECT_EQ(lockrun({"-w", "10ms", lock, "true", argument}).status, exited(75));
  EXPECT_EQ(events().size(), 2U); // waiting, finished
  std::istringstream in(read_file(file));
  for (std::string line; std::getline(in, line);) { EXPECT_LT(line.size(), std::size_t{PIPE_BUF}); }
}

TEST_F(Events, OfTooManyWaiters)
{
  const HoldingProcess holder(path);
  EXPECT_EQ(lockrun({"--max-waiters", "0", path, "true"}).status, exited(75));
  EXPECT_EQ(finished().at("outcome"), "busy");
  EXPECT_EQ(finished().at("error"), "too many wait already");
}

TEST_F(Events, OfASlot)
{
  EXPECT_EQ(lockrun({"-j", "3", path, "true"}).status, exited(0));
  EXPECT_EQ(events().front().at("slot"), 0);
}

TEST_F(Events, EndWithTheLockWhereLockrunBecomesTheCommand)
{
  EXPECT_EQ(lockrun({"-F", path, "true"}).status, exited(0));
  EXPECT_THAT(names_of(events()), ElementsAre("acquired"));
}

TEST_F(Events, OfADescriptor)
{
  const sys::Descriptor fd(::open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0600));
  Start start;
  start.descriptors = {{7, fd.get()}};
  EXPECT_EQ(lockrun({"7"}, start).status, exited(0));
  EXPECT_EQ(finished().at("lock"), "7");
  EXPECT_EQ(finished().at("outcome"), "ran");
  EXPECT_TRUE(finished().at("held_s").is_null()); // it is still held
  EXPECT_EQ(lockrun({"-u", "7"}, start).status, exited(0));
  EXPECT_THAT(names_of(events()), ElementsAre("acquired", "finished", "finished"));
}

// --- to where ---

TEST_F(Events, GoToADescriptor)
{
  Start start;
  start.out = k_captured;
  const auto told = run_lockrun({"--events", "fd:1", path, "echo", "between"}, start);
  std::istringstream lines(told.out);
  std::string first, second, third;
  std::getline(lines, first);
  std::getline(lines, second);
  std::getline(lines, third);
  EXPECT_THAT(names_of(events_in(first + "\n" + third + "\n")), ElementsAre("acquired", "finished"));
  EXPECT_EQ(second, "between");
}

TEST_F(Events, AreAppendedAndLeftToOthersToRead)
{
  write_file(file, "");
  EXPECT_EQ(lockrun({path, "true"}).status, exited(0));
  EXPECT_EQ(lockrun({path, "true"}).status, exited(0));
  EXPECT_EQ(events().size(), 4U);
  std::filesystem::remove(file);
  EXPECT_EQ(lockrun({path, "true"}).status, exited(0));
  struct ::stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0644U);
}

TEST_F(Events, AreNoneOfTheCommandsDescriptors)
{
  const auto told = lockrun({path, "sh", "-c", "ls -l /proc/self/fd"});
  EXPECT_THAT(told.out, Not(HasSubstr(file)));
}

TEST_F(Events, EscapeWhatIsNoText)
{
  const std::string strange = dir / "a\n\"\xff\x1b";
  EXPECT_EQ(lockrun({strange, "true", "\xff\n\x01", std::string(100'000, 'x')}).status, exited(0));
  const auto all = events();
  ASSERT_THAT(names_of(all), ElementsAre("acquired", "finished"));
  EXPECT_THAT(all[0].at("lock"), HasSubstr("a\n\"\xef\xbf\xbd\x1b")); // U+FFFD stands for what is no UTF-8
  EXPECT_LT(all[0].dump().size(), 4096U);
}

TEST_F(Events, OfManyProcessesAreWholeLines)
{
  std::vector<Process> processes;
  for (int i = 0; i < 40; ++i) { processes.emplace_back(lockrun_argv({"--events", file, path, "true"})); }
  for (Process& process : processes) { EXPECT_EQ(process.wait().status, exited(0)); }
  std::map<int, Words> calls;
  for (const json& event : events()) { calls[event.at("pid")].push_back(event.at("event")); }
  EXPECT_EQ(calls.size(), 40U);
  for (const auto& [pid, names] : calls) {
    EXPECT_EQ(names.back(), "finished");
    EXPECT_EQ(names[names.size() - 2], "acquired");
    EXPECT_LE(names.size(), 3U);
  }
}

// --- what cannot be written harms nothing ---

TEST_F(Events, AFullDiskHarmsNothing)
{
  const auto told = run_lockrun({"--events", "/dev/full", path, "echo", "ran"});
  EXPECT_EQ(told.status, exited(0));
  EXPECT_EQ(told.out, "ran\n");
  EXPECT_EQ(
    told.err, "lockrun: cannot write events to '/dev/full': No space left on device (ENOSPC), going on without\n");
}

// Nor does it end a command that lockrun becomes; the command's own files are its own business.
TEST_F(Events, AFileThatMayNotGrowHarmsNothing)
{
  if (has_thread_sanitizer(lockrun_binary())) { GTEST_SKIP() << "under ThreadSanitizer the signal ends it"; }
  Start start;
  start.err = k_pipe;
  start.before_exec = {hostile::limit(RLIMIT_FSIZE, 0)};
  for (const Words& options : {Words{}, {"-F"}}) {
    Words call = options;
    call.insert(call.end(), {"--events", dir / "events", path, "sh", "-c", "exit 3"});
    Process lockrun(lockrun_argv(call), start);
    EXPECT_EQ(lockrun.wait().status, exited(3));
    EXPECT_THAT(lockrun.err_line().value(), HasSubstr("File too large (EFBIG), going on without"));
  }
  Process lockrun(lockrun_argv({path, "sh", "-c", "echo >" + (dir / "mine").string()}), start);
  EXPECT_EQ(lockrun.wait().status, exited(128 + SIGXFSZ));
}

TEST_F(Events, AFileThatCannotBeMadeHarmsNothing)
{
  const std::string missing = dir / "missing" / "events";
  const auto told = run_lockrun({"--events", missing, path, "echo", "ran"});
  EXPECT_EQ(told.status, exited(0));
  EXPECT_EQ(told.out, "ran\n");
  EXPECT_EQ(told.err,
    fmt::format(
      "lockrun: cannot write events to '{}': No such file or directory (ENOENT), going on without\n", missing));
}

// Not even when a descriptor of lockrun's own could get that number.
TEST_F(Events, AClosedDescriptorHarmsNothing)
{
  for (int fd = 3; fd < 20; ++fd) {
    const auto told = run_lockrun({"--events", fmt::format("fd:{}", fd), "--api", "ofd", path, "echo", "ran"});
    EXPECT_EQ(told.status, exited(0));
    EXPECT_EQ(told.out, "ran\n");
    EXPECT_THAT(told.err, HasSubstr(fmt::format("cannot write events to 'fd:{}': Bad file descriptor (EBADF)", fd)));
  }
  EXPECT_EQ(read_file(path), "");
}

TEST_F(Events, ABrokenPipeHarmsNothing)
{
  for (const Words& options : {Words{}, Words{"-F"}}) { // as which lockrun would take the signal with it
    Pipe broken;
    broken.close_read();
    Start start;
    start.descriptors = {{9, broken.write_end}};
    Words words{"--events", "fd:9"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {path, "echo", "ran"});
    const auto told = run_lockrun(words, start);
    EXPECT_EQ(told.status, exited(0));
    EXPECT_EQ(told.out, "ran\n");
    EXPECT_THAT(told.err, HasSubstr("'fd:9': Broken pipe (EPIPE)"));
  }
}

TEST_F(Events, ASignalIsWhatEndsAWaitEvenIfNobodyReads)
{
  const HoldingProcess holder(path);
  Pipe broken;
  broken.close_read();
  Start start;
  start.descriptors = {{9, broken.write_end}};
  Process process(lockrun_argv({"--events", "fd:9", path, "true"}), start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, killed(SIGTERM));
}

TEST_F(Events, AFullPipeHarmsNothing)
{
  const Pipe full;
  full.fill();
  Start start;
  start.descriptors = {{9, full.write_end}};
  const auto told = run_lockrun({"--events", "fd:9", path, "echo", "ran"}, start);
  EXPECT_EQ(told.status, exited(0));
  EXPECT_EQ(told.out, "ran\n");
  EXPECT_THAT(told.err, HasSubstr("'fd:9': Resource temporarily unavailable (EAGAIN)"));
}

TEST_F(Events, AFifoWithoutAReaderHarmsNothing)
{
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  const auto told = lockrun({path, "echo", "ran"});
  EXPECT_EQ(told.out, "ran\n");
  EXPECT_THAT(told.err, HasSubstr("No such device or address (ENXIO)"));
}

TEST_F(Events, HaveToGoSomewhere)
{
  for (const char* const value : {"", "fd:", "fd:x", "fd:-1", "fd:1234567890"}) {
    EXPECT_EQ(run_lockrun({"--events", value, path, "true"}).status, exited(64)) << value;
  }
}

} // namespace
} // namespace lockrun::testing
