// The only file that reads Beast: it takes seconds to compile.
#include "engines/etcd/http.hpp"

#include <array>
#include <utility>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/make_printable.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/optional.hpp>
#include <fmt/format.h>

namespace lockrun::engines::etcd {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;
using Parser = http::response_parser<http::string_body>;

constexpr std::size_t k_piece = 16 * 1024;
constexpr std::uint64_t k_longest_answer = 64 * 1024 * 1024;

std::string serialized(const HttpRequest& request)
{
  http::request<http::string_body> message(http::verb::post, request.path, 11);
  message.set(http::field::host, request.host);
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
  return Wrong(Trouble{Kind::no_gateway, fmt::format("it does not speak HTTP ({})", error.message())});
}

} // namespace

struct HttpConnection::State {
  explicit State(Wire connected) : wire(std::move(connected)) {}
  Wire wire;
  beast::flat_buffer buffer;
  bool is_usable = true;
  boost::optional<Parser> stream;

  // Adds what came to the buffer.
  void add(const char* bytes, std::size_t count)
  {
    const auto space = buffer.prepare(count);
    std::copy_n(bytes, count, static_cast<char*>(space.data()));
    buffer.commit(count);
  }

  // Gives the parser what there is, as far as it can use it.
  Reply<void> parse(Parser& parser)
  {
    while (buffer.size() > 0 && !parser.is_done()) {
      beast::error_code error;
      const std::size_t used = parser.put(buffer.data(), error);
      buffer.consume(used);
      if (error == http::error::need_more) { break; }
      if (error) { return malformed(error); }
    }
    return {};
  }
};

HttpConnection::HttpConnection(Wire wire) : m_state(std::make_unique<State>(std::move(wire))) {}
HttpConnection::HttpConnection(HttpConnection&&) noexcept = default;
HttpConnection& HttpConnection::operator=(HttpConnection&&) noexcept = default;
HttpConnection::~HttpConnection() = default;

bool HttpConnection::is_usable() const noexcept
{
  return m_state->is_usable;
}

Reply<HttpAnswer> HttpConnection::post(const HttpRequest& request, const Attention& attention, Moment until)
{
  m_state->is_usable = false; // until the whole answer is here
  const auto sent = m_state->wire.send(serialized(request), attention, until);
  if (!sent) { return Wrong(sent.error()); }
  return take_answer(attention, until);
}

Reply<std::pair<HttpAnswer, HttpAnswer>> HttpConnection::post_both(
  const HttpRequest& first, const HttpRequest& second, const Attention& attention, Moment until)
{
  m_state->is_usable = false;
  const auto sent = m_state->wire.send(serialized(first) + serialized(second), attention, until);
  if (!sent) { return Wrong(sent.error()); }
  auto first_answer = take_answer(attention, until);
  if (!first_answer) { return Wrong(first_answer.error()); }
  m_state->is_usable = false;
  auto second_answer = take_answer(attention, until);
  if (!second_answer) { return Wrong(second_answer.error()); }
  return std::pair(std::move(*first_answer), std::move(*second_answer));
}

Reply<HttpAnswer> HttpConnection::take_answer(const Attention& attention, Moment until)
{
  Parser parser;
  parser.eager(true);
  parser.body_limit(k_longest_answer);
  std::array<char, k_piece> piece;
  for (;;) {
    const auto parsed = m_state->parse(parser); // perhaps it came with the one before
    if (!parsed) { return Wrong(parsed.error()); }
    if (parser.is_done()) { break; }
    const auto count = m_state->wire.receive(piece, attention, until);
    if (!count) { return Wrong(count.error()); }
    if (*count == 0) {
      beast::error_code error;
      if (parser.got_some()) { parser.put_eof(error); }
      if (parser.is_done() && !error) { break; }
      return Wrong(Trouble{Kind::unreachable, "it closed the connection"});
    }
    m_state->add(piece.data(), *count);
  }
  m_state->is_usable = parser.keep_alive();
  auto message = parser.release();
  return HttpAnswer{message.result_int(), std::move(message.body())};
}

Reply<void> HttpConnection::open_stream(const HttpRequest& request, const Attention& attention, Moment until)
{
  m_state->is_usable = false; // for anything else
  m_state->stream.emplace();
  m_state->stream->eager(true);
  m_state->stream->body_limit(boost::none);
  return m_state->wire.send(serialized(request), attention, until);
}

Reply<HttpConnection::Piece> HttpConnection::take_piece()
{
  Parser& parser = *m_state->stream;
  Piece piece;
  std::array<char, k_piece> bytes;
  for (;;) {
    const auto count = m_state->wire.receive_now(bytes);
    if (!count) { return Wrong(count.error()); }
    if (!*count) { break; }
    if (**count == 0) {
      piece.is_last = true;
      break;
    }
    m_state->add(bytes.data(), **count);
    const auto parsed = m_state->parse(parser);
    if (!parsed) { return Wrong(parsed.error()); }
  }
  piece.bytes = std::exchange(parser.get().body(), std::string());
  piece.is_last = piece.is_last || parser.is_done();
  return piece;
}

unsigned HttpConnection::stream_status() const
{
  const auto& stream = m_state->stream;
  return stream && stream->is_header_done() ? stream->get().result_int() : 0;
}

int HttpConnection::descriptor() const noexcept
{
  return m_state->wire.descriptor();
}

} // namespace lockrun::engines::etcd
