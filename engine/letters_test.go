package engine_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
)

func TestDeadLettersAreKeptAndListed(t *testing.T) {
	l := newLettered(t)
	all := []messaging.DeadLetter{single(1, "a"), single(2, "b"), single(3, "b")}
	all = append(all, copies("b", 0, 1)...)
	all = append(all, copies("c", 2)...)
	undeliverable := single(4, "b")
	undeliverable.Kind = messaging.Undeliverable
	all = append(all, undeliverable)
	for range 2 { // again, as after a crash before the position was saved
		l.add(all...)
	}
	l.crash()
	for _, limit := range []int{1, 2, 3, 100} {
		var got []string
		for _, d := range l.listed("", "", limit) {
			got = append(got, fmt.Sprint(d.Message.Position.Sequence, d.Reason, d.Recipients))
			if string(d.Message.Body) == "" || !json.Valid(d.Message.AppendJSON(nil)) {
				t.Errorf("%s reads %s", d.ID, d.Message.AppendJSON(nil))
			}
		}
		// In the order of ids. The ids of copies are derived from their receivers.
		slices.Sort(got[2:5])
		if text := fmt.Sprint(got); text != "[1a1 2b1 3b1 5b2 5c1 4b1]" {
			t.Errorf("pages of %d: %s", limit, text)
		}
		if n := len(l.listed(messaging.Undeliverable, "", limit)); n != 1 {
			t.Errorf("%d are undeliverable, want 1", n)
		}
		if n := len(l.listed("", "b", limit)); n != 4 {
			t.Errorf("%d have the reason, want 4", n)
		}
		if list := l.listed(messaging.Refused, "b", limit); len(list) != 3 || list[0].Message.Position.Sequence != 2 || list[2].Message.Position.Sequence != 5 {
			t.Errorf("refused for the reason are %+v, want those of 2, 3 and 5 in this order", list)
		}
	}
	for kind, want := range map[messaging.DeadLetterKind]uint64{messaging.Refused: 5, messaging.Undeliverable: 1} {
		if n := l.store().Count(kind); n != want {
			t.Errorf("%d are %s, want %d", n, kind, want)
		}
	}
	for _, id := range []string{"", "refused-x", "refused-00000000-0000-0000-0000-000000000000", messaging.DeadLetterID("lost", messaging.MessageID{0, 1})} {
		if _, ok, err := l.store().FindDeadLetter(id); ok || err != nil {
			t.Errorf("%q is found (%v)", id, err)
		}
		l.drop(id, false)
	}
}

// A change between two pages neither hides a letter nor lists one twice.
func TestPagesContinueAfterRemovedLetters(t *testing.T) {
	for _, reason := range []string{"", "r"} {
		l := newLettered(t)
		for seq := range uint64(10) {
			l.add(single(seq+1, "r"))
		}
		filter := messaging.DeadLetterFilter{Limit: 3, Reason: reason}
		var seen []uint64
		for {
			page, err := l.store().ListDeadLetters(filter)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page.DeadLetters {
				seen = append(seen, page.DeadLetters[i].Message.Position.Sequence)
				l.drop(page.DeadLetters[i].ID, true)
			}
			if filter.After = page.Next; filter.After == "" {
				break
			}
		}
		if fmt.Sprint(seen) != "[1 2 3 4 5 6 7 8 9 10]" {
			t.Errorf("by reason %q: %v", reason, seen)
		}
		l.want("")
	}
}

// A job of format 1 has stored the id of its last letter.
func TestAListingByReasonContinuesAfterALetter(t *testing.T) {
	l := newLettered(t)
	l.add(single(1, "r"), single(2, "r"), single(3, "other"), single(4, "r"))
	for id, want := range map[string]string{
		messaging.DeadLetterID(messaging.Refused, single(2, "").Message.ID):    "[4]",
		messaging.DeadLetterID(messaging.Refused, single(3, "").Message.ID):    "[1 2 4]", // not in this listing
		messaging.DeadLetterID(messaging.Refused, single(9, "").Message.ID):    "[1 2 4]", // removed
		messaging.DeadLetterID(messaging.Undeliverable, messaging.MessageID{}): "[]",
	} {
		page, err := l.store().ListDeadLetters(messaging.DeadLetterFilter{Limit: 10, Reason: "r", After: id})
		if err != nil {
			t.Fatal(err)
		}
		got := []uint64{}
		for i := range page.DeadLetters {
			got = append(got, page.DeadLetters[i].Message.Position.Sequence)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("after %s come %v, want %s", id, got, want)
		}
	}
}

func TestRecipientsOfADeadLetterAreRead(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0, 1, 2, 10)...)
	d := l.listed("", "", 10)[0]
	page, err := l.store().DeadRecipients(&d, "u0", 1)
	if err != nil || usersOf(page) != "u1" || page[0].Message.Position != (messaging.Position{Sequence: 5, Receiver: 1}) {
		t.Fatalf("after u0: %+v %v", page, err)
	}
	for _, r := range l.recipients(&d) {
		if r.Message.ID != messaging.CopyID(d.Message.Origin, r.Message.Receiver.User) || !r.Message.Receiver.Quoted || string(r.Message.Body) != `{"text":"x"}` {
			t.Errorf("the copy of %s is %+v", r.Message.Receiver.User, r.Message)
		}
	}
	if page, err := l.store().DeadRecipients(&d, "u11", 10); err != nil || usersOf(page) != "" { // u11 is none of them
		t.Errorf("after u11: %s (%v)", usersOf(page), err)
	}
}

func TestStoredRecipientsLeaveAndTheLetterGoesWithTheLast(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0, 1, 2)...)
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.begin("j")
	l.claim("j", all, true, true, true)
	for range 2 { // again, as after a crash
		l.finish("j", all[1:2], nil, nil)
		l.want("r 1 at 100: u0 u2")
	}
	l.claim("j", all, true, false, true)
	l.finish("j", all, nil, nil)
	l.want("")
	l.drop(d.ID, false)
}

func TestDropRemovesALetterWithAllRecipients(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0, 1, 2)...)
	l.add(copies("s", 3)...)
	for _, d := range l.listed("", "r", 10) {
		l.drop(d.ID, true)
		l.drop(d.ID, false)
		if page, err := l.store().DeadRecipients(&d, "", 10); err != nil || len(page) > 0 {
			t.Errorf("its recipients are %s (%v)", usersOf(page), err)
		}
	}
	l.want("s 1 at 100: u3")
}

// Fault 3: the listing showed the old reason and time, `?reason=` found nothing, and a
// delete left a part of the letter.
func TestALetterThatIsRefusedAgainForAnotherReasonMoves(t *testing.T) {
	l := newLettered(t)
	l.add(copies("first", 0, 1, 2)...)
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.begin("j")
	l.claim("j", all, true, true, true)
	l.finish("j", nil, refusals("second", 200, all[1]), nil)
	l.want("first 1 at 100: u0 u2; second 2 at 200: u1")
	l.finish("j", nil, refusals("second", 201, all[0], all[2]), nil)
	l.want("second 2 at 200: u0 u1 u2")
	if n := len(l.listed("", "first", 10)); n != 0 {
		t.Errorf("%d letters have the first reason", n)
	}
	moved := l.listed("", "second", 10)
	if len(moved) != 1 || moved[0].StatusCode != unprocessable {
		t.Fatalf("those of the second reason are %+v", moved)
	}
	l.drop(moved[0].ID, true)
	l.want("")
	l.crash()
	l.want("")
}

// A redrive finishes a large letter in several changes, and counts one attempt.
func TestARedriveInSeveralBatchesIsOneAttempt(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0, 1, 2)...)
	d := l.listed("", "", 10)[0]
	for redrive := range 2 {
		job := fmt.Sprint("j", redrive)
		l.begin(job)
		for _, r := range l.recipients(&d) {
			l.claim(job, []messaging.DeadRecipient{r}, true)
			l.finish(job, nil, refusals("r", 200, r), nil)
		}
		l.want(fmt.Sprintf("r %d at 100: u0 u1 u2", 2+redrive))
	}
}

func TestTheSameMessageAgainStaysOrMovesToItsNewReason(t *testing.T) {
	l := newLettered(t)
	l.add(copies("first", 0, 1)...)
	again := copies("first", 0)
	again[0].Attempts, again[0].FailedAt = 7, time.Unix(900, 0)
	l.add(again...)
	l.want("first 1 at 100: u0 u1")
	l.add(copies("second", 0)...) // a replay gets it refused for another reason
	l.want("first 1 at 100: u1; second 1 at 100: u0")
	l.add(append(copies("third", 0), copies("fourth", 0, 1)...)...)
	l.want("fourth 1 at 100: u0 u1")
}

// A letter has the id of one recipient's message. No two letters have the same id.
func TestALetterIsRenamedWhereAnotherNeedsItsID(t *testing.T) {
	l := newLettered(t)
	l.add(copies("first", 0, 1, 2)...)
	l.add(copies("second", 0)...)
	l.want("first 1 at 100: u1 u2; second 1 at 100: u0")
	ids := make(map[string]bool)
	for _, reason := range []string{"first", "second"} {
		for _, d := range l.listed("", reason, 10) {
			ids[d.ID] = true
			if d.ID != messaging.DeadLetterID(d.Kind, d.Message.ID) {
				t.Errorf("%s is named after %s", d.ID, d.Message.ID)
			}
		}
	}
	if len(ids) != 2 || !ids[messaging.DeadLetterID(messaging.Refused, copies("", 0)[0].Message.ID)] {
		t.Errorf("they are named %v", ids)
	}
	// Its recipients leave it, and the ids that it could take leave with them.
	for n := range 3 {
		l.add(copies(fmt.Sprint("own", n), n)...)
	}
	l.add(copies("first", 3)...)
	l.add(copies("own3", 3)...)
	l.want("own0 1 at 100: u0; own1 1 at 100: u1; own2 1 at 100: u2; own3 1 at 100: u3")
	// All leave at once, so no recipient with a free id is left.
	l.add(copies("shared", 0, 1, 2, 3)...)
	l.add(append(copies("a", 0), copies("b", 1)...)...)
	l.want("a 1 at 100: u0; b 1 at 100: u1; shared 1 at 100: u2 u3")
	for _, d := range l.listed("", "", 10) {
		l.drop(d.ID, true)
	}
	l.want("")
}

// If another letter has each recipient's id, the letter has a derived id.
func TestALetterWithoutAFreeIDHasADerivedOne(t *testing.T) {
	l := newLettered(t)
	// "a" has the id of u0, which leaves it. So the next letter with u0 has that id, and
	// "a" takes the id of u1. When u1 leaves and comes back alone, only u2 is left in "a",
	// and a third letter has its id.
	l.add(copies("a", 0, 1)...)
	l.begin("j")
	d := l.listed("", "a", 10)[0]
	all := l.recipients(&d)
	l.claim("j", all, true, true)
	// In one commit u0 and u1 leave "a" and u0 comes back, so "a" has the id of u0 again.
	l.finish("j", nil, append(refusals("b", 200, all[0]), refusals("c", 200, all[1])...), nil)
	l.want("b 2 at 200: u0; c 2 at 200: u1")
	l.add(append(copies("new", 2, 3), copies("newer", 2)...)...)
	ids := make(map[string]string)
	for _, d := range l.listed("", "", 10) {
		if other := ids[d.ID]; other != "" {
			t.Errorf("%s is the id of %s and %s", d.ID, other, d.Reason)
		}
		ids[d.ID] = d.Reason
		l.drop(d.ID, true)
	}
	l.want("")
}

func TestOldDeadLettersExpire(t *testing.T) {
	l := newLettered(t)
	young := single(2, "young")
	young.FailedAt = time.Unix(1000, 0)
	late := copies("late", 1)
	late[0].FailedAt = time.Unix(1000, 0)
	l.add(single(1, "old"), young)
	l.add(append(copies("late", 0), late...)...) // kept because of the recipient that failed last
	for seq := range uint64(600) {
		l.add(single(seq+10, "many"))
	}
	if n, err := l.store().Expire(time.Unix(500, 0)); n != 601 || err != nil {
		t.Errorf("%d letters are removed (%v), want 601", n, err)
	}
	l.want("late 1 at 100: u0 u1; young 1 at 1000: u")
	if n, err := l.store().Expire(time.Unix(500, 0)); n != 0 || err != nil {
		t.Errorf("%d letters are removed again (%v)", n, err)
	}
}

func TestPageOfDeadLettersIsBoundedInBytes(t *testing.T) {
	l := newLettered(t)
	for n := range uint64(30) {
		d := single(n+1, "r")
		d.Message.Body = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 600<<10))
		l.add(d)
	}
	for _, reason := range []string{"", "r"} {
		seen, filter := 0, messaging.DeadLetterFilter{Limit: 1000, Reason: reason}
		for pages := 1; ; pages++ {
			page, err := l.store().ListDeadLetters(filter)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(page.DeadLetters); n > 15 {
				t.Errorf("a page has %d letters of 600 KiB", n)
			}
			seen += len(page.DeadLetters)
			if filter.After = page.Next; filter.After == "" {
				if seen != 30 || pages < 2 {
					t.Errorf("%d letters on %d pages", seen, pages)
				}
				break
			}
		}
	}
}

// A letter with more recipients than fit one change is added, claimed and removed.
func TestALetterOfManyRecipients(t *testing.T) {
	l := newLettered(t)
	numbers := make([]int, 2500)
	for i := range numbers {
		numbers[i] = i
	}
	if err := l.store().AddDeadLetters(copies("r", numbers...), messaging.Progress{Position: &messaging.Position{Sequence: 1}}); err != nil {
		t.Fatal(err)
	}
	letters := l.listed("", "", 10)
	all := l.recipients(&letters[0])
	if len(letters) != 1 || len(all) != len(numbers) {
		t.Fatalf("%d letters with %d recipients", len(letters), len(all))
	}
	l.begin("j")
	has, err := l.store().ClaimDeadLetters("j", all)
	if err != nil || len(has) != len(all) || slices.ContainsFunc(has, func(c messaging.Claim) bool { return c != messaging.Claimed }) {
		t.Fatalf("%d claims (%v)", len(has), err)
	}
	l.finish("j", all[1000:], nil, nil)
	l.crash()
	if d, ok, err := l.store().FindDeadLetter(letters[0].ID); !ok || err != nil || d.Recipients != 1000 {
		t.Errorf("%d recipients are left (%t %v)", d.Recipients, ok, err)
	}
	l.drop(letters[0].ID, true)
	l.want("")
}
