#include "lock/holder_hint.hpp"

#include "support/eventually.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"

#include <filesystem>
#include <optional>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

class HolderHints : public ::testing::Test {
protected:
  sys::FileIdentity file() const { return sys::stat(path.c_str()).value().identity; }

  const TempDir dir;
  const std::filesystem::path path = write_file(dir / "lock", "");
};

TEST_F(HolderHints, AreThereAsLongAsTheyAreKept)
{
  EXPECT_FALSE(HolderHint::find(file()));
  {
    const HolderHint hint = HolderHint::leave(file(), 4312);
    EXPECT_EQ(HolderHint::find(file()), 4312);
  }
  EXPECT_FALSE(HolderHint::find(file()));
}

TEST_F(HolderHints, AreForOneFile)
{
  const HolderHint hint = HolderHint::leave(file(), 4312);
  const sys::FileIdentity other{file().device, file().inode + 1};
  EXPECT_FALSE(HolderHint::find(other));
}

TEST_F(HolderHints, OnlyOneLooksForTheHolder)
{
  std::optional<HolderHint> first;
  // A call elsewhere may be about to say something.
  ASSERT_TRUE(eventually([&] { return (first = HolderHint::begin_to_look(file())).has_value(); }));
  EXPECT_TRUE(HolderHint::is_looked_for(file()));
  EXPECT_FALSE(HolderHint::begin_to_look(file()));
  EXPECT_FALSE(HolderHint::find(file()));
  first.reset();
  EXPECT_FALSE(HolderHint::is_looked_for(file()));
}

} // namespace
} // namespace lockrun::testing
