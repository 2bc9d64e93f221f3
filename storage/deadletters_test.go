package storage

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
)

func letter(seq uint64, receiver uint32, reason string) messaging.DeadLetter {
	id := messaging.MessageID{0: byte(seq), 1: byte(receiver)}
	return messaging.DeadLetter{
		ID: messaging.DeadLetterID(messaging.Refused, id), Kind: messaging.Refused, Reason: reason, StatusCode: 400, Attempts: 1,
		FailedAt: time.Unix(1, 0), Recipients: 1, Message: messaging.Message{
			ID: id, Origin: messaging.MessageID{0: byte(seq)}, Position: messaging.Position{Sequence: seq, Receiver: receiver}, Copy: true,
			Receiver: messaging.Receiver{User: messaging.UserID(fmt.Sprint("u", receiver)), Quoted: true}, Body: []byte(`{"n":9007199254740993}`),
		},
	}
}

const unprocessable = 422 // a status of the backend

// copies gives the recipients of a dead letter that there are.
func copies(t *testing.T, c *Control, id string) (users []messaging.UserID) {
	t.Helper()
	letter, ok, err := c.FindDeadLetter(id)
	if err != nil || !ok {
		t.Fatalf("letter %s: %t %v", id, ok, err)
	}
	page, err := c.DeadCopies(&letter, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, dead := range page {
		users = append(users, dead.Message.Receiver.User)
		if dead.Message.ID != messaging.CopyID(letter.Message.Origin, dead.Message.Receiver.User) {
			t.Errorf("the copy of %s has the id %s", dead.Message.Receiver.User, dead.Message.ID)
		}
	}
	if len(users) != letter.Recipients {
		t.Errorf("%d recipients are counted, %d are there", letter.Recipients, len(users))
	}
	return users
}

// group makes dead letters of one broadcast's copies for a reason.
func group(c *Control, reason string, receivers ...int) error {
	base := messaging.Message{ID: messaging.MessageID{9}, Origin: messaging.MessageID{9}, Position: messaging.Position{Sequence: 5}, Body: []byte(`{"text":"x"}`)}
	letters := make([]messaging.DeadLetter, len(receivers))
	for i, n := range receivers {
		m := base.CopyTo(uint32(n), messaging.Receiver{User: messaging.UserID(fmt.Sprint("u", n)), Quoted: true})
		letters[i] = messaging.DeadLetter{
			ID: messaging.DeadLetterID(messaging.Refused, m.ID), Kind: messaging.Refused, Reason: reason, Attempts: 1, FailedAt: time.Unix(100, 0), Message: m,
		}
	}
	return c.AddDeadLetters(letters)
}

func listed(t *testing.T, c *Control) []messaging.DeadLetter {
	t.Helper()
	page, err := c.ListDeadLetters(messaging.DeadLetterFilter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	if page.Total != len(page.DeadLetters) {
		t.Errorf("%d are counted, %d are there", page.Total, len(page.DeadLetters))
	}
	return page.DeadLetters
}

func TestSettlingRecipientsRemovesTheLetterWithTheLast(t *testing.T) {
	s := openDisk(t, t.TempDir())
	defer closeStore(t, s)
	c := s.Control()
	if err := group(c, "r", 0, 1, 2); err != nil {
		t.Fatal(err)
	}
	letter := listed(t, c)[0]
	page, err := c.DeadCopies(&letter, "u0", 1) // behind u0, one
	if err != nil || len(page) != 1 || page[0].Message.Receiver.User != "u1" || page[0].Message.Position.Receiver != 1 {
		t.Fatalf("%+v %v", page, err)
	}
	for range 2 { // again, as after a crash
		if err := c.SettleDead(page); err != nil {
			t.Fatal(err)
		}
		if got := copies(t, c, letter.ID); fmt.Sprint(got) != "[u0 u2]" {
			t.Errorf("left are %v", got)
		}
	}
	if ok, err := c.DropDeadLetter(letter.ID); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if left := listed(t, c); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
	if ok, err := c.DropDeadLetter(letter.ID); ok || err != nil {
		t.Errorf("dropped twice: %t %v", ok, err)
	}
}

func TestCopyRefusedForAnotherReasonLeavesItsGroup(t *testing.T) {
	s := openDisk(t, t.TempDir())
	defer closeStore(t, s)
	c := s.Control()
	if err := group(c, "first", 0, 1, 2); err != nil {
		t.Fatal(err)
	}
	shared := listed(t, c)[0]
	page, err := c.DeadCopies(&shared, "u0", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RefuseAgain(page[0], "second", unprocessable, time.Unix(200, 0)); err != nil {
		t.Fatal(err)
	}
	rest, _, err := c.FindDeadLetter(shared.ID)
	if err != nil || !rest.FailedAt.Equal(time.Unix(100, 0)) || rest.Reason != "first" {
		t.Errorf("the rest is %+v (%v): a redrive that was cut off would pass it over", rest, err)
	}
	if got := copies(t, c, shared.ID); fmt.Sprint(got) != "[u0 u2]" {
		t.Errorf("left in the group are %v", got)
	}
	own, ok, err := c.FindDeadLetter(messaging.DeadLetterID(messaging.Refused, page[0].Message.ID))
	if err != nil || !ok || own.Reason != "second" || own.StatusCode != unprocessable || own.Attempts != 2 || !own.FailedAt.Equal(time.Unix(200, 0)) {
		t.Errorf("its own letter is %+v (%t %v)", own, ok, err)
	}
	if n := len(listed(t, c)); n != 2 {
		t.Errorf("%d letters", n)
	}
}

func TestLettersThatShareAnIDCanBeDropped(t *testing.T) {
	s := openDisk(t, t.TempDir())
	defer closeStore(t, s)
	c := s.Control()
	for _, add := range []struct {
		reason string
		n      int
	}{{"first", 0}, {"second", 0}, {"second", 1}, {"first", 2}} { // a replay has 0 refused for another reason
		if err := group(c, add.reason, add.n); err != nil {
			t.Fatal(err)
		}
	}
	for _, letter := range listed(t, c) {
		copies(t, c, letter.ID)
		if ok, err := c.DropDeadLetter(letter.ID); !ok || err != nil {
			t.Errorf("%s: %t %v", letter.ID, ok, err)
		}
	}
	if left := listed(t, c); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
}

func TestOldDeadLettersExpire(t *testing.T) {
	s := openDisk(t, t.TempDir())
	defer closeStore(t, s)
	c := s.Control()
	old, young := letter(1, 0, "old"), letter(2, 0, "young")
	young.FailedAt = time.Unix(1000, 0)
	if err := c.AddDeadLetters([]messaging.DeadLetter{old, young}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.ExpireDeadLetters(time.Unix(500, 0)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if left := listed(t, c); len(left) != 1 || left[0].Reason != "young" {
		t.Errorf("left are %+v", left)
	}
}

func TestPageOfDeadLettersIsBoundedInBytes(t *testing.T) {
	s := openDisk(t, t.TempDir())
	defer closeStore(t, s)
	c := s.Control()
	for n := range uint64(30) {
		d := letter(n+1, 0, "r")
		d.Message.Body = fmt.Appendf(nil, `{"x":%q}`, make([]byte, 150<<10))
		if err := c.AddDeadLetters([]messaging.DeadLetter{d}); err != nil {
			t.Fatal(err)
		}
	}
	seen, filter := 0, messaging.DeadLetterFilter{Limit: 1000}
	for pages := 1; ; pages++ {
		page, err := c.ListDeadLetters(filter)
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for i := range page.DeadLetters {
			bytes += len(page.DeadLetters[i].Message.Body)
		}
		if bytes > deadLetterBytes {
			t.Errorf("a page has %d bytes", bytes)
		}
		if seen += len(page.DeadLetters); page.Next == "" {
			if seen != 30 || pages < 2 {
				t.Errorf("%d letters on %d pages", seen, pages)
			}
			return
		}
		filter.After = page.Next
	}
}

func TestDeadLetters(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	c := s.Control()
	letters := []messaging.DeadLetter{letter(1, 0, "a"), letter(2, 0, "b"), letter(3, 0, "b"), letter(4, 0, "b"), letter(4, 1, "b"), letter(4, 2, "c")}
	for range 2 { // again, as after a crash before the position was saved
		if err := c.AddDeadLetters(letters); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	s = openDisk(t, dir)
	defer closeStore(t, s)
	c = s.Control()
	var got []string
	filter := messaging.DeadLetterFilter{Limit: 2}
	for {
		page, err := c.ListDeadLetters(filter)
		if err != nil || page.Total != 5 {
			t.Fatalf("total %d (%v), want 5", page.Total, err)
		}
		for _, d := range page.DeadLetters {
			got = append(got, fmt.Sprint(d.Message.Position.Sequence, d.Reason, d.Recipients, string(d.Message.Body)))
		}
		if page.Next == "" {
			break
		}
		filter.After = page.Next
	}
	want := `["1a1{\"n\":9007199254740993}" "2b1{\"n\":9007199254740993}" "3b1{\"n\":9007199254740993}" "4b2{\"n\":9007199254740993}" "4c1{\"n\":9007199254740993}"]`
	if text := fmt.Sprintf("%q", got); text != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
	page, err := c.ListDeadLetters(messaging.DeadLetterFilter{Limit: 10, Reason: "b", Kind: messaging.Refused})
	if err != nil || len(page.DeadLetters) != 3 {
		t.Errorf("%d have the reason (%v), want 3", len(page.DeadLetters), err)
	}
	if d, ok, err := c.FindDeadLetter(letters[0].ID); err != nil || !ok || !json.Valid(d.AppendJSON(nil)) {
		t.Errorf("%+v %t %v", d, ok, err)
	}
	if _, ok, err := c.FindDeadLetter("refused-x"); ok || err != nil {
		t.Errorf("found what is not there: %v", err)
	}
}

func TestARecipientThatFailedLaterIsKeptForItsTime(t *testing.T) {
	s := openDisk(t, t.TempDir())
	defer closeStore(t, s)
	c := s.Control()
	if err := group(c, "r", 0); err != nil {
		t.Fatal(err)
	}
	m := listed(t, c)[0].Message
	late := m.CopyTo(1, messaging.Receiver{User: "u1", Quoted: true})
	if err := c.AddDeadLetters([]messaging.DeadLetter{{ID: messaging.DeadLetterID(messaging.Refused, late.ID), Kind: messaging.Refused, Reason: "r", Attempts: 1, FailedAt: time.Unix(1000, 0), Message: late}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExpireDeadLetters(time.Unix(500, 0)); err != nil {
		t.Fatal(err)
	}
	if left := listed(t, c); len(left) != 1 {
		t.Errorf("%d letters are left: the one that failed at 1000 went with that of 100", len(left))
	}
}
