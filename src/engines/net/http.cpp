// The only file that reads Beast: it takes seconds to compile. Beast asserts what is up to the server, that the end of
// a last chunk comes in one piece with it, and reads it well if it does not.
#define BOOST_DISABLE_ASSERTS
#include "engines/net/http.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/make_printable.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/optional.hpp>
#include <fmt/format.h>

namespace lockrun::engines::net {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;
using Parser = http::response_parser<http::string_body>;

constexpr std::size_t k_piece = 16 * 1024;                 // what TLS has at once
constexpr int k_pieces_at_once = 8;                        // then others get their turn
constexpr std::size_t k_longest_line = 64 * 1024;          // headers, and what precedes a chunk
constexpr std::size_t k_longest_answer = 2 << 20U;         // the queue of 4,000 waiters
constexpr std::size_t k_most_bytes = 2 * k_longest_answer; // with all that HTTP adds

std::string serialized(const HttpRequest& request, const std::string& host)
{
  http::request<http::string_body> message(http::verb::post, request.path, 11);
  message.set(http::field::host, host);
  message.set(http::field::content_type, "application/json");
  if (!request.authorization.empty()) { message.set(http::field::authorization, request.authorization); }
  message.body() = request.body;
  message.prepare_payload();
  http::request_serializer<http::string_body> serializer(message);
  std::string bytes;
  beast::error_code error;
  while (!serializer.is_done() && !error) {
    serializer.next(error, [&](beast::error_code&, const auto& buffers) {
      for (const auto buffer : beast::buffers_range_ref(buffers)) {
        bytes.append(static_cast<const char*>(buffer.data()), buffer.size());
      }
      serializer.consume(beast::buffer_bytes(buffers));
    });
  }
  return bytes;
}

Wrong malformed(const beast::error_code& error)
{
  return Wrong(Trouble{Kind::wrong_service, fmt::format("it does not speak HTTP ({})", error.message())});
}

Wrong too_long(const char* what)
{
  return Wrong(Trouble{Kind::wrong_service, fmt::format("{} is too long", what)});
}

} // namespace

struct HttpConnection::State {
  State(Wire connected, std::string name) : wire(std::move(connected)), host(std::move(name)) {}

  Wire wire;
  std::string host;
  std::string unsent;
  std::chrono::nanoseconds asked{0};
  std::size_t expected = 0; // answers
  std::vector<HttpAnswer> answers;
  std::optional<Parser> parser; // of the answer that comes next
  bool is_stream = false;
  bool is_usable = true;
  std::size_t count = 0; // bytes that have come
  beast::flat_buffer buffer;

  void begin_answer()
  {
    parser.emplace();
    parser->eager(true);
    if (is_stream) {
      parser->body_limit(boost::none);
    } else {
      parser->body_limit(k_longest_answer);
    }
  }

  void begin(std::string bytes, std::size_t answers_expected)
  {
    unsent = std::move(bytes);
    expected = answers_expected;
    answers.clear();
    asked = {};
    count = 0;
    is_usable = expected == 0; // until the whole answer is here
    begin_answer();
  }

  // Adds what came to the buffer.
  void add(const char* bytes, std::size_t size)
  {
    const auto space = buffer.prepare(size);
    std::copy_n(bytes, size, static_cast<char*>(space.data()));
    buffer.commit(size);
    count += size;
  }

  // Gives the parser what there is, as far as it can use it.
  Reply<void> parse()
  {
    while (buffer.size() > 0 && !parser->is_done()) {
      beast::error_code error;
      const std::size_t used = parser->put(buffer.data(), error);
      buffer.consume(used);
      if (error == http::error::need_more) { break; }
      if (error == http::error::body_limit) { return too_long("its answer"); }
      if (error) { return malformed(error); }
    }
    if (buffer.size() > k_longest_line && !parser->is_done()) { return too_long("a line of its answer"); }
    return {};
  }

  Reply<void> finish_answer()
  {
    const bool stays = parser->keep_alive();
    auto message = parser->release();
    answers.push_back({message.result_int(), std::move(message.body())});
    is_usable = stays && answers.size() == expected && buffer.size() == 0;
    if (!stays && answers.size() < expected) { return closed(); }
    begin_answer();
    return {};
  }

  static tl::unexpected<Trouble> closed() { return Wrong(Trouble{Kind::unreachable, "it closed the connection"}); }
};

HttpConnection::HttpConnection(Wire wire, const std::string& host)
  : m_state(std::make_unique<State>(std::move(wire), host))
{}
HttpConnection::HttpConnection(HttpConnection&&) noexcept = default;
HttpConnection& HttpConnection::operator=(HttpConnection&&) noexcept = default;
HttpConnection::~HttpConnection() = default;

bool HttpConnection::is_usable() const noexcept
{
  return m_state->is_usable;
}

std::chrono::nanoseconds HttpConnection::asked() const noexcept
{
  return m_state->asked;
}

std::size_t HttpConnection::size() const noexcept
{
  return m_state->count;
}

int HttpConnection::descriptor() const noexcept
{
  return m_state->wire.descriptor();
}

short HttpConnection::events() const noexcept
{
  return m_state->wire.events();
}

void HttpConnection::ask(const std::vector<HttpRequest>& requests)
{
  std::string bytes;
  for (const HttpRequest& request : requests) { bytes += serialized(request, m_state->host); }
  m_state->begin(std::move(bytes), requests.size());
}

void HttpConnection::ask_also(const HttpRequest& request)
{
  m_state->unsent += serialized(request, m_state->host);
  ++m_state->expected;
  m_state->is_usable = false;
}

void HttpConnection::open_stream(const HttpRequest& request)
{
  m_state->is_stream = true;
  m_state->begin(serialized(request, m_state->host), 0);
  m_state->is_usable = false; // for anything else
}

Reply<Progress> HttpConnection::advance()
{
  State& state = *m_state;
  auto ready = state.wire.advance();
  if (!ready || *ready == Progress::waiting) { return ready; }
  if (state.asked == std::chrono::nanoseconds(0) && !state.unsent.empty()) { state.asked = sys::elapsed_now(); }
  while (!state.unsent.empty()) {
    const auto sent = state.wire.send(state.unsent);
    if (!sent) { return Wrong(sent.error()); }
    if (*sent == 0) { return Progress::waiting; }
    state.unsent.erase(0, *sent);
  }
  std::array<char, k_piece> piece;
  for (int i = 0; state.answers.size() < state.expected; ++i) {
    const auto parsed = state.parse(); // perhaps it came with the one before
    if (!parsed) { return Wrong(parsed.error()); }
    if (state.parser->is_done()) {
      const auto finished = state.finish_answer();
      if (!finished) { return Wrong(finished.error()); }
      continue;
    }
    if (state.count > k_most_bytes) { return too_long("its answer"); }
    if (i >= k_pieces_at_once) { return Progress::waiting; } // for the next of them
    const auto count = state.wire.receive(piece);
    if (!count) { return Wrong(count.error()); }
    if (!*count) { return Progress::waiting; }
    if (**count > 0) {
      state.add(piece.data(), **count);
      continue;
    }
    beast::error_code error;
    if (state.parser->got_some()) { state.parser->put_eof(error); }
    if (!state.parser->is_done() || error) { return State::closed(); }
  }
  return Progress::done;
}

std::vector<HttpAnswer> HttpConnection::take_answers()
{
  return std::exchange(m_state->answers, {});
}

Reply<HttpConnection::Piece> HttpConnection::take_piece()
{
  State& state = *m_state;
  Piece piece;
  std::array<char, k_piece> bytes;
  for (int i = 0; i < k_pieces_at_once; ++i) {
    const auto count = state.wire.receive(bytes);
    if (!count) { return Wrong(count.error()); }
    if (!*count) { break; }
    if (**count == 0) {
      piece.is_last = true;
      break;
    }
    state.add(bytes.data(), **count);
    const auto parsed = state.parse();
    if (!parsed) { return Wrong(parsed.error()); }
  }
  piece.bytes = std::exchange(state.parser->get().body(), std::string());
  piece.is_last = piece.is_last || state.parser->is_done();
  return piece;
}

unsigned HttpConnection::stream_status() const
{
  const auto& parser = m_state->parser;
  return m_state->is_stream && parser->is_header_done() ? parser->get().result_int() : 0;
}

} // namespace lockrun::engines::net
