#pragma once

#include "options/option_table.hpp"

#include <cstdint>
#include <initializer_list>
#include <span>

namespace lockrun::cli {

// A set of options.
class OptionSet {
public:
  consteval OptionSet(std::initializer_list<OptionId> ids) noexcept
  {
    for (const OptionId id : ids) { add(id); }
  }
  constexpr void add(OptionId id) noexcept { m_bits |= std::uint64_t{1} << static_cast<unsigned>(id); }
  constexpr bool contains(OptionId id) const noexcept { return (m_bits >> static_cast<unsigned>(id) & 1) != 0; }
  constexpr bool meets(const OptionSet& other) const noexcept { return (m_bits & other.m_bits) != 0; }
  constexpr bool empty() const noexcept { return m_bits == 0; }

private:
  std::uint64_t m_bits = 0;
};
static_assert(static_cast<unsigned>(OptionId::version) < 64, "a set has a bit for each option");

// What a call is about, as far as it decides which options mean something.
enum class Subject {
  any,
  engine,          // LOCK is a URL
  descriptor,      // FD, or --fd FD
  bare_descriptor, // FD without a command
};

// One of `options` cannot be combined with one of `others` or, if there are none, with the subject.
struct Rule {
  Subject subject;
  OptionSet options;
  OptionSet others;
  const char* why; // the end of a sentence
};

// All rules, in the order in which a command line is checked: what is refused is refused for the first that applies.
std::span<const Rule> rules();

} // namespace lockrun::cli
