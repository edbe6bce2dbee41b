#include "engines/etcd/queue.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using namespace engines;
using namespace engines::etcd;
using ::testing::ElementsAre;

const Note k_exclusive{};
const Note k_shared{Mode::shared};
Note slot_of(int slots, std::optional<int> slot = {})
{
  return {Mode::exclusive, slots, slot};
}
Note counted(Note note)
{
  note.is_counted = true;
  return note;
}

std::vector<Member> queue_of(const std::vector<Note>& notes)
{
  std::vector<Member> queue;
  for (const Note& note : notes) {
    queue.push_back({"a/" + std::to_string(queue.size()), 10 + std::ssize(queue), note});
  }
  return queue;
}

Rank newcomer(const std::vector<Note>& notes, const Note& note)
{
  return rank_of(queue_of(notes), notes.size(), note);
}

Json kv(const char* key, int created, const std::string& value = {})
{
  return {{"key", encode_base64(key)}, {"create_revision", std::to_string(created)}, {"value", encode_base64(value)}};
}

TEST(EtcdQueue, IsTheKeysWithALeaseForANameInTheOrderOfTheirCreation)
{
  const Json response = {{"kvs", {kv("a/b/77", 1), kv("a/config", 2), kv("a/", 3), kv("a/0f", 9), kv("a/77", 5)}}};
  const auto queue = members_of(response, "a/");
  ASSERT_EQ(queue.size(), 2U);
  EXPECT_EQ(queue[0].key, "a/77");
  EXPECT_EQ(queue[0].created, 5);
  EXPECT_EQ(queue[1].key, "a/0f");
  EXPECT_TRUE(members_of(Json::object(), "a/").empty());
}

TEST(EtcdNote, SaysWhoAndHow)
{
  const Note note{
    Mode::shared, 4, 2, true, Owner{"web1", 77, "ann", "rsync -a /srv \"/b\"", 1'700'000'000'123, "boot/1/2"}};
  EXPECT_EQ(read_note(write_note(note)), note);
  EXPECT_EQ(read_note(write_note(k_shared)), k_shared);
}

TEST(EtcdNote, IsExclusiveWhenItIsNotOurs)
{
  for (const char* value : {"", "shared", "{}", "[1]", R"({"mode":"shared"})", R"({"lockrun":"x","mode":"shared"})"}) {
    EXPECT_EQ(read_note(value), k_exclusive) << value;
  }
}

TEST(EtcdQueue, GivesAnExclusiveLockToTheFirstOnly)
{
  EXPECT_TRUE(newcomer({}, k_exclusive).is_held);
  for (const Note& other : {k_exclusive, k_shared, slot_of(3, 0)}) {
    const Rank rank = newcomer({other, k_exclusive}, k_exclusive);
    EXPECT_FALSE(rank.is_held);
    EXPECT_EQ(rank.position, 2);
    EXPECT_EQ(rank.obstacle, 1U); // the direct predecessor: no herd
    EXPECT_EQ(rank.holder, 0U);
  }
}

TEST(EtcdQueue, LetsSharedOnesInTogetherButNotPastAnExclusiveOne)
{
  EXPECT_TRUE(newcomer({k_shared, k_shared, slot_of(2, 1)}, k_shared).is_held);
  const Rank rank = newcomer({k_shared, k_exclusive, k_shared}, k_shared);
  EXPECT_FALSE(rank.is_held);
  EXPECT_EQ(rank.position, 3);
  EXPECT_EQ(rank.obstacle, 1U);
  EXPECT_EQ(rank.holder, 0U);
}

TEST(EtcdQueue, GivesTheLowestFreeSlot)
{
  EXPECT_EQ(newcomer({}, slot_of(2)).slot_to_claim, 0);
  EXPECT_EQ(newcomer({slot_of(3, 1), slot_of(3, 0)}, slot_of(3)).slot_to_claim, 2);
  EXPECT_EQ(newcomer({slot_of(3, 1), k_shared}, slot_of(3)).slot_to_claim, 0);
}

TEST(EtcdQueue, LetsSlotsBeChosenOneAfterTheOther)
{
  const Rank rank = newcomer({slot_of(3, 0), slot_of(3)}, slot_of(3));
  EXPECT_FALSE(rank.is_held);
  EXPECT_FALSE(rank.slot_to_claim);
  EXPECT_EQ(rank.obstacle, 1U);
}

TEST(EtcdQueue, PromisesASlotThatThoseWhoChooseLeave)
{
  EXPECT_TRUE(newcomer({slot_of(3, 0), slot_of(3)}, slot_of(3)).is_promised);
  EXPECT_FALSE(newcomer({slot_of(3, 0), slot_of(3), slot_of(3)}, slot_of(3)).is_promised);
  EXPECT_FALSE(newcomer({slot_of(3, 0), slot_of(1)}, slot_of(3)).is_promised); // that one waits
  EXPECT_FALSE(newcomer({k_exclusive, slot_of(3)}, slot_of(3)).is_promised);
}

TEST(EtcdQueue, LooksAtAllWhenAnySlotWillDo)
{
  const Rank rank = newcomer({slot_of(2, 0), slot_of(2, 1)}, slot_of(2));
  EXPECT_FALSE(rank.is_held);
  EXPECT_FALSE(rank.slot_to_claim);
  EXPECT_FALSE(rank.obstacle);
  EXPECT_EQ(rank.position, 1);
}

TEST(EtcdQueue, KeepsSlotsBehindAnExclusiveOne)
{
  const Rank rank = newcomer({slot_of(2, 0), k_exclusive}, slot_of(2));
  EXPECT_FALSE(rank.slot_to_claim);
  EXPECT_EQ(rank.obstacle, 1U);
}

TEST(EtcdQueue, HoldsASlotOnceItIsInTheNote)
{
  const auto queue = queue_of({slot_of(2, 0), slot_of(2, 1), slot_of(2)});
  EXPECT_TRUE(rank_of(queue, 1, queue[1].note).is_held);
  EXPECT_TRUE(holds(queue, 1));
  EXPECT_FALSE(holds(queue, 2));
}

TEST(EtcdQueue, CountsWaitersThatGaveALimit)
{
  EXPECT_EQ(newcomer({counted(k_exclusive), counted(k_exclusive), k_exclusive}, k_exclusive).counted_waiters, 1);
  EXPECT_EQ(newcomer({counted(k_shared), counted(k_shared)}, k_exclusive).counted_waiters, 0);
}

TEST(EtcdQueue, NamesThoseWhoLeftANameAndTheKeyOfOthers)
{
  Note note = k_exclusive;
  note.owner = Owner{"web1", 77, "ann", "make", 5};
  const auto queue = queue_of({note, k_exclusive});
  EXPECT_EQ(contender_of(queue, 0).text, "PID 77 (make, user ann) on web1");
  EXPECT_FALSE(contender_of(queue, 0).waits);
  EXPECT_EQ(contender_of(queue, 1).text, "somebody who left no name (key a/1)");
  EXPECT_TRUE(contender_of(queue, 1).waits);
  EXPECT_EQ(contender_of(queue, 1).position, 1);
}

} // namespace
} // namespace lockrun::testing
