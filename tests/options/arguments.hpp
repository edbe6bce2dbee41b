#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

// An argv of the program `lockrun`, ending with a null pointer.
class Arguments {
public:
  explicit Arguments(std::vector<std::string> words) : m_words(std::move(words))
  {
    m_words.insert(m_words.begin(), "lockrun");
    for (std::string& word : m_words) { m_argv.push_back(word.data()); }
    m_argv.push_back(nullptr);
  }
  Arguments(std::initializer_list<const char*> words) : Arguments(std::vector<std::string>(words.begin(), words.end()))
  {}
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  int argc() const { return static_cast<int>(m_words.size()); }
  char* const* argv() const { return m_argv.data(); }

  std::string text() const
  {
    std::string text;
    for (const std::string& word : m_words) { text += (text.empty() ? "" : " ") + ("[" + word + "]"); }
    return text;
  }

private:
  std::vector<std::string> m_words;
  std::vector<char*> m_argv;
};
