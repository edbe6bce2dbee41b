#include "remote/engine.hpp"

#include "kernel/ancestry.hpp"
#include "remote/engine_users.hpp"
#include "sys/channel.hpp"
#include "sys/clock.hpp"
#include "sys/file.hpp"
#include "sys/passwd.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "sys/program.hpp"
#include "text/quote.hpp"

#include <lockrun/status.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <sysexits.h>
#include <utility>

#include <sys/wait.h>

namespace lockrun::remote {
namespace {

using protocol::Message;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using Failed = tl::unexpected<Error>;
using Moment = std::optional<nanoseconds>;

// An engine answers our greeting before it asks anybody else.
constexpr seconds k_greeting{5};
// With -n it has to ask its server, and to find another one when that is gone.
constexpr seconds k_answer{10};
// Beyond the time limit, for an engine that has something to say about why it never got so far as to wait.
constexpr seconds k_last_words{1};
// For leaving a queue, and for ending.
constexpr seconds k_farewell{1};

std::int64_t in_ms(nanoseconds duration)
{
  return std::chrono::ceil<milliseconds>(duration).count();
}

std::string text_of(const Message& message, std::string_view key)
{
  return std::string(message.text(key).value_or(std::string_view()));
}

// Where engine programs are looked for, in this order.
std::vector<std::string> places()
{
  std::vector<std::string> found;
  if (const char* const listed = sys::environment("LOCKRUN_ENGINE_PATH"); listed != nullptr && *listed != '\0') {
    std::string_view rest = listed;
    while (!rest.empty()) {
      const std::string_view directory = rest.substr(0, rest.find(':'));
      rest.remove_prefix(std::min(rest.size(), directory.size() + 1));
      if (!directory.empty()) { found.emplace_back(directory); }
    }
    return found;
  }
  const auto program = sys::program_path();
  if (!program) { return {LOCKRUN_ENGINES}; }
  const std::string ours = program->substr(0, program->rfind('/'));
  if (LOCKRUN_ENGINES[0] == '/') { return {LOCKRUN_ENGINES, ours}; }
  return {ours + "/" + LOCKRUN_ENGINES, ours}; // wherever the whole was moved to; and where it was built
}

// `path` is that of the program; empty: it did not come so far.
Error not_started(SysError cause, std::string path = {})
{
  Error error{Reason::engine_not_started, {}, cause};
  error.detail = std::move(path);
  return error;
}

Error interrupted_by(int signal)
{
  return {Reason::interrupted, {}, {nullptr, signal}};
}

Error about(Reason reason, std::string detail, std::string holder = {})
{
  Error error{reason, {}};
  error.detail = std::move(detail);
  error.holder = std::move(holder);
  return error;
}

// What a message says of one that has the lock.
struct Known {
  std::string words;
  std::optional<Holder> who;
};

std::shared_ptr<const LockStatus> status_of(std::optional<Holder> who)
{
  if (!who) { return nullptr; }
  auto status = std::make_shared<LockStatus>();
  status->holders.push_back(std::move(*who));
  return status;
}

// The number of a signal that ends the call; 0 if none has come.
int ending_signal(const sys::Descriptor& signals)
{
  for (;;) {
    const auto signal = sys::read_signal(signals);
    if (!signal || !*signal) { return 0; }
    const auto disposition = sys::disposition((*signal)->number);
    if (disposition.value_or(sys::Disposition::standard) != sys::Disposition::ignored) { return (*signal)->number; }
  }
}

// What makes the number of a process of ours the name of one process for ever: this run of this machine (random(4)),
// the namespace of the number (pid_namespaces(7)), and its start. Empty if we cannot know.
std::string instance_of(const sys::ProcessStatus& process)
{
  auto text = sys::read_file("/proc/sys/kernel/random/boot_id");
  const auto numbers = sys::stat("/proc/self/ns/pid");
  if (!text || !numbers) { return {}; }
  text->erase(std::min(text->find('\n'), text->size()));
  return *text + "/" + std::to_string(numbers->identity.inode) + "/" + std::to_string(process.start);
}

// A number proves nothing, not even with the name of a host: containers and clones have both in common.
bool is_ancestor(pid_t pid, std::string_view instance)
{
  if (instance.empty()) { return false; }
  auto child = sys::process_status(sys::process_id());
  while (child && child->parent > 0) {
    auto status = sys::process_status(child->parent);
    if (!status || kernel::is_adopted(*child, *status)) { return false; }
    if (status->pid == pid) { return instance == instance_of(*status); }
    child = std::move(status);
  }
  return false;
}

// What an engine says of the moment until which the lock is ours. None for one that cannot be: none can be further away
// than the whole time to live.
Moment deadline_in(const Message& message, nanoseconds ttl)
{
  const auto deadline = message.number("deadline");
  if (!deadline || *deadline <= 0 || *deadline > in_ms(sys::elapsed_now() + ttl)) { return std::nullopt; }
  return milliseconds(*deadline);
}

bool is_letter_or_digit(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// A number, or a text that stays one word in whatever it is put into.
bool is_token(std::string_view text)
{
  constexpr std::size_t k_longest = 256;
  const auto fits = [](char c) {
    return is_letter_or_digit(c) || std::string_view("/:._+-").find(c) != std::string_view::npos;
  };
  return !text.empty() && text.size() <= k_longest && is_letter_or_digit(text.front()) &&
         std::all_of(text.begin(), text.end(), fits);
}

// Whether the list has the word.
bool can(std::string_view capabilities, std::string_view wanted)
{
  while (!capabilities.empty()) {
    const std::string_view word = capabilities.substr(0, capabilities.find(','));
    if (word == wanted) { return true; }
    capabilities.remove_prefix(std::min(capabilities.size(), word.size() + 1));
  }
  return false;
}

// What must be in `can=` for this and is not; null if nothing is missing.
const char* missing_capability(const LockRequest& request, std::string_view capabilities)
{
  const auto has = [capabilities](std::string_view wanted) { return can(capabilities, wanted); };
  if (request.mode == Mode::shared && !has("shared")) { return "shared"; }
  if (request.slots > 0 && !has("slots")) { return "slots"; }
  if (request.max_waiters.value_or(0) > 0 && !has("max_waiters")) { return "max_waiters"; }
  if (request.fair && !has("fair")) { return "fair"; }
  return nullptr;
}

// Whether the holder that WAITING tells of is an ancestor of ours, so that waiting for it would never end.
bool is_held_by_ancestor(const Message& waiting, const LockRequest& request)
{
  if (waiting.number("holder_slot") && request.slots > 1) { return false; } // another one will do
  const auto pid = static_cast<pid_t>(waiting.number("holder_pid").value_or(0));
  return is_ancestor(pid, waiting.text("holder_instance").value_or(""));
}

// Whether its lock is good enough for what was asked for.
bool covers(const Message& waiting, const LockRequest& request)
{
  const auto slot = waiting.number("holder_slot");
  const bool excludes_all = waiting.text("holder_mode") == "exclusive" && !slot;
  const bool wants_company = request.mode == Mode::shared && request.slots == 0;
  return excludes_all || wants_company || (request.slots == 1 && slot == 0);
}

Error nested_under(const Message& waiting)
{
  const auto pid = static_cast<pid_t>(waiting.number("holder_pid").value_or(0));
  return {Reason::nested, {}, {}, {{pid, sys::command_line(pid).value_or(""), {}}}};
}

bool is_nonblocking(const LockRequest& request)
{
  return request.patience && *request.patience == nanoseconds(0);
}

// With --max-waiters 0 no call may wait, and it is not the engine that has to know why.
bool may_wait(const LockRequest& request)
{
  return !is_nonblocking(request) && request.max_waiters != 0;
}

// As for locks of this machine: with -n an ancestor's lock is as busy as any other, unless it will do.
bool asks_for_ancestors(const LockRequest& request)
{
  return request.nested == Nested::run || (request.nested == Nested::fail && !is_nonblocking(request));
}

Message acquire_message(const EngineQuestion& question)
{
  const LockRequest& request = question.request;
  const bool is_limited = request.patience && may_wait(request);
  const auto user = sys::effective_user();
  const auto self = sys::process_status(sys::process_id());
  constexpr std::size_t k_enough = 256; // others want to recognise the command, not to repeat it
  return Message("ACQUIRE")
    .with("mode", request.mode == Mode::shared ? "shared" : "exclusive")
    .with("slots", request.slots)
    .with("nonblock", may_wait(request) ? 0 : 1)
    .with("wait_ms", is_limited ? in_ms(*request.patience) : -1)
    .with("max_waiters", request.max_waiters.value_or(0))
    .with("ttl_ms", in_ms(question.ttl))
    .with("host", sys::host_name().value_or("localhost"))
    .with("pid", sys::process_id())
    .with("user", sys::user_name(user).value_or(std::to_string(user)))
    .with("command", std::string_view(question.command).substr(0, k_enough))
    .with("since_ms", in_ms(sys::wall_now()))
    .with("instance", self ? instance_of(*self) : std::string());
}

} // namespace

std::string engine_name(std::string_view lock)
{
  const auto end = lock.find("://");
  if (end == std::string_view::npos || !is_letter_or_digit(lock.front())) { return {}; }
  std::string name(lock.substr(0, end));
  const auto fits = [](char c) { return is_letter_or_digit(c) || c == '+' || c == '-' || c == '.'; };
  if (!std::all_of(name.begin(), name.end(), fits)) { return {}; }
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  std::transform(name.begin(), name.end(), name.begin(), lower);
  return name;
}

Engine::Engine(std::string name, std::string path, sys::Launch launch, sys::Descriptor socket)
  : m_name(std::move(name)), m_path(std::move(path)), m_launch(launch), m_pid(launch.pid()), m_socket(std::move(socket))
{
  if (auto process = sys::open_process(m_pid)) { m_process = std::move(*process); }
}

Engine::Engine(Engine&& other) noexcept
  : m_name(std::move(other.m_name)), m_path(std::move(other.m_path)), m_launch(other.m_launch),
    m_pid(std::exchange(other.m_pid, 0)), m_process(std::move(other.m_process)), m_socket(std::move(other.m_socket)),
    m_lines(std::move(other.m_lines)), m_ttl(other.m_ttl), m_is_stuck(other.m_is_stuck)
{}

Result<Engine, Error> Engine::start(std::string_view name, const sys::SignalSet& inherited)
{
  sys::SignalSet mask = inherited;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) { mask.add(signal); }
  auto pair = sys::socket_pair(sys::SocketKind::stream);
  if (!pair) { return Failed(not_started(pair.error())); }
  const std::string program_name = "lockrun-engine-" + std::string(name);
  Error missing = about(Reason::engine_missing, program_name);
  for (const std::string& place : places()) {
    missing.hint += (missing.hint.empty() ? "it is not in " : " and ") + text::quoted(place);
    std::string path(place);
    path.append("/").append(program_name);
    const auto found = sys::stat(path.c_str());
    if (!found && (found.error().code == ENOENT || found.error().code == ENOTDIR)) { continue; }
    char* const argv[] = {path.data(), nullptr};
    sys::Program program{};
    program.file = path.c_str();
    program.argv = argv;
    program.mask = mask;
    program.talks_to = &pair->theirs;
    const auto started = sys::start(program);
    if (!started) { return Failed(not_started(started.error(), path)); }
    return Engine(program_name, path, *started, std::move(pair->ours));
  }
  return Failed(std::move(missing));
}

Engine::~Engine()
{
  if (m_pid == 0) { return; }
  m_socket = sys::Descriptor(); // the end of file tells it to leave
  if (m_process.is_open() && !m_is_stuck) { (void)sys::wait_readable({&m_process}, k_farewell); }
  const auto change = sys::wait_child(m_pid, WEXITED | WNOHANG);
  if (!change || *change) { return; } // it is gone
  // Stuck or stopped: what it has runs out by itself.
  (void)sys::kill(m_pid, SIGKILL);
  if (m_process.is_open()) { (void)sys::wait_readable({&m_process}, k_farewell); }
  (void)sys::wait_child(m_pid, WEXITED | WNOHANG); // if it is still there, it sits in the kernel
}

bool Engine::say(const std::string& lines)
{
  // A fresh socket has room for more than our longest line.
  const auto sent = sys::send(m_socket, std::as_bytes(std::span(lines)));
  return sent ? *sent == lines.size() : sent.error().code != EAGAIN;
}

Engine::Heard Engine::hear()
{
  for (;;) {
    std::string line;
    switch (m_lines.next(line)) {
    case protocol::LineReader::State::too_long:
      return {Heard::Kind::nonsense, {}, "a line longer than 64 KiB"};
    case protocol::LineReader::State::line: {
      auto message = protocol::parse(line);
      if (!message) { return {Heard::Kind::nonsense, {}, "a line of which " + std::string(message.error())}; }
      return {Heard::Kind::message, std::move(*message), {}};
    }
    case protocol::LineReader::State::incomplete:
      break;
    }
    std::array<std::byte, 4096> room{};
    const auto count = sys::receive(m_socket, room);
    if (!count && count.error().code == EAGAIN) { return {Heard::Kind::nothing}; }
    if (!count || *count == 0) { return {Heard::Kind::end}; }
    m_lines.add({reinterpret_cast<const char*>(room.data()), *count});
  }
}

Engine::Heard Engine::await(Moment until, const sys::Descriptor* other)
{
  static const sys::Descriptor k_nothing;
  for (;;) {
    Heard heard = hear();
    if (heard.kind != Heard::Kind::nothing) { return heard; }
    Moment left;
    if (until) {
      left = *until - sys::steady_now();
      if (*left <= nanoseconds(0)) { return heard; }
    }
    const auto ready = sys::wait_readable({&m_socket, other != nullptr ? other : &k_nothing}, left);
    if (ready && (*ready & 2U) != 0) { return heard; }
  }
}

Error Engine::failure_of(const Heard& heard) const
{
  switch (heard.kind) {
  case Heard::Kind::end:
    if (const auto failure = m_launch.failure()) { return not_started(*failure, m_path); }
    return about(Reason::engine_ended, m_name);
  case Heard::Kind::nonsense:
    return about(Reason::engine_nonsense, m_name, heard.complaint);
  case Heard::Kind::message:
    return about(Reason::engine_nonsense, m_name, "an unexpected '" + heard.message.verb() + "'");
  case Heard::Kind::nothing:
    break;
  }
  return about(Reason::engine_silent, m_name);
}

Error Engine::deaf() const
{
  return failure_of(Heard{});
}

Error Engine::failure_of(const Message& failed)
{
  const std::string reason = text_of(failed, "reason");
  Error error = about(Reason::engine_refused, text_of(failed, "text"), text_of(failed, "holder"));
  if (reason == "busy") { error.reason = Reason::busy; }
  if (reason == "timed_out") { error.reason = Reason::timed_out; }
  if (reason == "too_many_waiters") { error.reason = Reason::too_many_waiters; }
  error.status = static_cast<int>(std::clamp<std::int64_t>(failed.number("status").value_or(0), 0, 255));
  error.hint = text_of(failed, "hint");
  if (error.detail.empty()) { error.detail = reason; }
  return error;
}

// Says what we are, and where the lock is; and at once what we want, if every engine can do it. Returns what the engine
// is.
Result<Message, Error> Engine::greet(
  const std::string& url, const Message* wish, Moment until, const sys::Descriptor* signals)
{
  const Message introduction = Message("LOCKRUN").with("version", protocol::k_version).with("url", url);
  if (!protocol::fits(introduction)) {
    Error refused = about(Reason::engine_refused, "its URL is too long for an engine");
    refused.status = EX_USAGE;
    return Failed(std::move(refused));
  }
  std::string lines = protocol::format(introduction);
  if (wish != nullptr) { lines += protocol::format(*wish); }
  m_is_stuck = !say(lines);
  if (m_is_stuck) { return Failed(deaf()); }
  const nanoseconds enough = sys::steady_now() + k_greeting;
  const Moment limit = until ? std::min(*until, enough) : enough;
  Heard heard = await(limit, signals);
  while (heard.kind == Heard::Kind::nothing && signals != nullptr && sys::steady_now() < *limit) {
    if (const int signal = ending_signal(*signals); signal != 0) {
      abandon();
      return Failed(interrupted_by(signal));
    }
    heard = await(limit, signals);
  }
  m_is_stuck = heard.kind == Heard::Kind::nothing;
  if (heard.kind != Heard::Kind::message) { return Failed(failure_of(heard)); }
  if (heard.message.is("FAIL")) { return Failed(failure_of(heard.message)); }
  if (!heard.message.is("ENGINE")) { return Failed(failure_of(heard)); }
  if (heard.message.number("version") != protocol::k_version) {
    return Failed(about(Reason::engine_nonsense, m_name,
      "version " + text_of(heard.message, "version") + " of the protocol, where we speak 1"));
  }
  return heard.message;
}

// A call that asks for the lock.
struct Engine::Asking {
  const EngineQuestion& question;
  EngineListener& listener;
  nanoseconds began;
  nanoseconds next_look; // on the steady clock
  bool may_wait;
  bool is_waiting = false; // the engine has told us that somebody else has it
  Known holder{};
  std::optional<std::int64_t> position{};

  // When the engine must have answered, on the steady clock.
  Moment limit() const
  {
    if (!may_wait) { return began + k_answer; }
    if (!question.request.patience) { return std::nullopt; }
    return began + *question.request.patience + (is_waiting ? nanoseconds(0) : nanoseconds(k_last_words));
  }
};

Result<EngineLease, Error> Engine::acquire(
  const std::string& url, const EngineQuestion& question, EngineListener& listener)
{
  const LockRequest& request = question.request;
  const auto signals = sys::signal_descriptor(question.ended_by);
  if (!signals) { return Failed(not_started(signals.error())); }
  const Message wish = acquire_message(question);
  const bool is_modest = missing_capability(request, {}) == nullptr;
  const nanoseconds began = sys::steady_now();
  Asking asking{question, listener, began, began, may_wait(request)};
  const auto greeted = greet(url, is_modest ? &wish : nullptr, asking.may_wait ? asking.limit() : Moment(), &*signals);
  if (!greeted) { return Failed(greeted.error()); }
  if (const char* const missing = missing_capability(request, text_of(*greeted, "can"))) {
    return Failed(about(Reason::engine_unable, missing, m_name));
  }
  if (!is_modest && !say(protocol::format(wish))) {
    m_is_stuck = true;
    return Failed(deaf());
  }
  for (;;) {
    const Moment limit = asking.limit();
    const bool looks_first = asking.is_waiting && (!limit || asking.next_look < *limit);
    const Heard heard = await(looks_first ? Moment(asking.next_look) : limit, &*signals);
    if (heard.kind == Heard::Kind::nothing) {
      if (auto over = reason_to_stop(asking, *signals)) { return Failed(*std::move(over)); }
    } else if (heard.kind != Heard::Kind::message) {
      return Failed(failure_of(heard));
    } else if (auto answer = answer_in(heard.message, asking)) {
      return *std::move(answer);
    }
  }
}

// While the engine says nothing.
std::optional<Error> Engine::reason_to_stop(Asking& asking, const sys::Descriptor& signals)
{
  if (const int signal = ending_signal(signals); signal != 0) {
    abandon();
    return interrupted_by(signal);
  }
  const nanoseconds now = sys::steady_now();
  const Moment limit = asking.limit();
  if (limit && now >= *limit) {
    abandon();
    m_is_stuck = !asking.is_waiting;
    if (m_is_stuck) { return deaf(); }
    Error late = about(Reason::timed_out, {}, asking.holder.words);
    late.seen = status_of(std::move(asking.holder.who));
    return late;
  }
  if (asking.is_waiting && now >= asking.next_look) {
    asking.next_look = now + asking.listener.waiting(now - asking.began, asking.holder.words, asking.position);
  }
  return std::nullopt;
}

// None: it was no last word.
std::optional<Result<EngineLease, Error>> Engine::answer_in(const Message& message, Asking& asking)
{
  if (message.is("HELD")) { return check(message); }
  if (message.is("FAIL")) { return Failed(refusal_in(message, asking)); }
  if (message.is("WAITING")) { return waiting_in(message, asking); }
  if (!message.is("TROUBLE")) { return Failed(failure_of(Heard{Heard::Kind::message, message, {}})); }
  asking.listener.trouble(text_of(message, "text"));
  return std::nullopt;
}

Error Engine::refusal_in(const Message& message, Asking& asking)
{
  Error error = failure_of(message);
  const bool only_others_may_not_wait = !asking.may_wait && !is_nonblocking(asking.question.request);
  if (error.reason == Reason::busy && only_others_may_not_wait) { error.reason = Reason::too_many_waiters; }
  if (error.holder.empty()) { error.holder = asking.holder.words; }
  const bool is_known = error.holder == asking.holder.words;
  error.seen = status_of(is_known ? std::move(asking.holder.who) : holder_in(message, "holder_", error.holder));
  return error;
}

std::optional<Result<EngineLease, Error>> Engine::waiting_in(const Message& message, Asking& asking)
{
  const LockRequest& request = asking.question.request;
  asking.is_waiting = asking.may_wait;
  asking.holder.words = text_of(message, "holder");
  asking.holder.who = holder_in(message, "holder_", asking.holder.words);
  const bool is_known = asking.holder.who->pid != 0 || !asking.holder.who->command.empty();
  if (!is_known) { asking.holder.who.reset(); }
  asking.position = message.number("position");
  if (!asks_for_ancestors(request) || !is_held_by_ancestor(message, request)) { return std::nullopt; }
  abandon();
  if (request.nested != Nested::run || !covers(message, request)) { return Failed(nested_under(message)); }
  EngineLease lease;
  lease.is_ancestors = true;
  return lease;
}

// Nothing that an engine says is believed that cannot be true.
Result<EngineLease, Error> Engine::check(const Message& held)
{
  const auto nonsense = [this](const char* what) { return Failed(about(Reason::engine_nonsense, m_name, what)); };
  const auto ttl = held.number("ttl_ms");
  if (!ttl || *ttl <= 0 || *ttl > protocol::k_longest_ttl) { return nonsense("a lock without a time to live"); }
  m_ttl = milliseconds(*ttl);
  EngineLease lease;
  lease.ttl = m_ttl;
  lease.token = text_of(held, "token");
  if (!is_token(lease.token)) { return nonsense("a lock without a token"); }
  const Moment deadline = deadline_in(held, m_ttl);
  if (!deadline) { return nonsense("a deadline that cannot be"); }
  lease.deadline = *deadline;
  lease.epoch = text_of(held, "epoch");
  lease.key = text_of(held, "key");
  if (const auto slot = held.number("slot")) { lease.slot = static_cast<int>(*slot); }
  return lease;
}

Result<std::vector<Message>, Error> Engine::status(const std::string& url)
{
  const auto greeted = greet(url, nullptr, std::nullopt, nullptr);
  if (!greeted) { return Failed(greeted.error()); }
  if (!can(text_of(*greeted, "can"), "status")) { return Failed(about(Reason::engine_unable, "status", m_name)); }
  m_is_stuck = !say("STATUS\n");
  if (m_is_stuck) { return Failed(deaf()); }
  std::vector<Message> users;
  const nanoseconds until = sys::steady_now() + k_answer;
  for (;;) {
    Heard heard = await(until);
    if (heard.kind != Heard::Kind::message) { return Failed(failure_of(heard)); }
    if (heard.message.is("END")) { return users; }
    if (heard.message.is("FAIL")) { return Failed(failure_of(heard.message)); }
    if (heard.message.is("TROUBLE")) { continue; }
    if (!heard.message.is("HOLDER") && !heard.message.is("WAITER")) { return Failed(failure_of(heard)); }
    users.push_back(std::move(heard.message));
  }
}

Engine::Event Engine::next_event()
{
  const auto lost = [this](std::string text) {
    m_socket = sys::Descriptor();
    return Event{Event::Kind::lost, k_as_before, std::move(text)};
  };
  if (!m_socket.is_open()) { return {}; }
  const Heard heard = hear();
  const Message& message = heard.message;
  if (heard.kind == Heard::Kind::nothing) { return {}; }
  if (heard.kind == Heard::Kind::end) { return lost(m_name + " has ended"); }
  if (heard.kind == Heard::Kind::nonsense) { return lost(m_name + " sends " + heard.complaint); }
  if (message.is("TROUBLE")) { return {Event::Kind::trouble, {}, text_of(message, "text")}; }
  if (message.is("RENEWED")) {
    const Moment deadline = deadline_in(message, m_ttl);
    if (!deadline) { return lost(m_name + " sends a deadline that cannot be"); }
    return {Event::Kind::renewed, *deadline, {}};
  }
  // Without a deadline that can be, or with FAIL, another process may hold it already.
  const nanoseconds sure_until = deadline_in(message, m_ttl).value_or(nanoseconds(0));
  if (message.is("LOST")) { return {Event::Kind::lost, sure_until, text_of(message, "reason")}; }
  if (message.is("FAIL")) { return {Event::Kind::lost, sure_until, failure_of(message).detail}; }
  return lost(m_name + " sends an unexpected '" + message.verb() + "'");
}

Engine::Release Engine::release(nanoseconds patience)
{
  if (!m_socket.is_open() || !say("RELEASE\n")) { return Release::unknown; }
  const nanoseconds until = sys::steady_now() + patience;
  for (;;) {
    const Heard heard = await(until);
    m_is_stuck = heard.kind == Heard::Kind::nothing;
    if (heard.kind != Heard::Kind::message) { return Release::unknown; }
    // With a text something is left behind there.
    if (heard.message.is("RELEASED")) { return heard.message.text("text") ? Release::unknown : Release::done; }
    if (heard.message.is("LOST")) { return Release::was_lost; }
    if (heard.message.is("FAIL")) { return Release::unknown; }
  }
}

// What the original has read is missing here, perhaps up to the middle of a line: there is no answer to understand.
void Engine::release_unheard()
{
  if (m_socket.is_open()) { (void)say("RELEASE\n"); }
}

void Engine::abandon()
{
  if (m_socket.is_open()) { (void)say("ABANDON\n"); }
}

} // namespace lockrun::remote
