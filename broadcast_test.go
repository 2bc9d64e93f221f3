package messaging_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
)

// receiversOf parses a broadcast to the given ids, which are JSON, and returns its
// receivers.
func receiversOf(tb testing.TB, ids ...string) []string {
	tb.Helper()
	b, err := messaging.ParseBroadcast(broadcastTo(ids))
	if err != nil {
		tb.Fatal(err)
	}
	var got []string
	for _, chunk := range b.Receivers.Chunks() {
		list, err := messaging.DecodeReceivers(chunk)
		if err != nil {
			tb.Fatal(err)
		}
		for _, r := range list {
			got = append(got, string(r.User))
		}
	}
	if len(got) != b.Receivers.Len() {
		tb.Fatalf("Len is %d, the chunks have %d receivers", b.Receivers.Len(), len(got))
	}
	return got
}

func broadcastTo(ids []string) []byte {
	return []byte(`{"message":{"sender_id":1,"text":"to all"},"user_ids":[` + strings.Join(ids, ",") + `]}`)
}

// TestBroadcastNamesEachUserOnce checks that a broadcast has each user once, at the
// user's first occurrence, for ids in any order and of both types.
func TestBroadcastNamesEachUserOnce(t *testing.T) {
	for _, c := range []struct{ ids, want string }{
		{"1,2,3", "1,2,3"},
		{"3,2,1", "3,2,1"},
		{"1,2,2,3", "1,2,3"},
		{"1,5,3,5,1,9,9,2,3", "1,5,3,9,2"},
		{`7,"7",8,"8"`, "7,8"},
		{`"8",7,"7",8`, "8,7"},
		{`1,"01","1","01",2`, "1,01,2"},
		{`0,"0",1,0`, "0,1"},
		{`"b","a","b",5,"a",4,5`, "b,a,5,4"},
	} {
		if got := strings.Join(receiversOf(t, strings.Split(c.ids, ",")...), ","); got != c.want {
			t.Errorf("[%s] goes to %s, want %s", c.ids, got, c.want)
		}
	}
}

// BenchmarkParseBroadcast parses a broadcast to 100,000 users, with ids in ascending
// order, as from a database, and in random order.
func BenchmarkParseBroadcast(b *testing.B) {
	ids := make([]string, 100_000)
	for i := range ids {
		ids[i] = fmt.Sprint(1_000_000 + i)
	}
	shuffled := slices.Clone(ids)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(ids), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for name, ids := range map[string][]string{"ascending": ids, "shuffled": shuffled} {
		b.Run(name, func(b *testing.B) {
			body := broadcastTo(ids)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := messaging.ParseBroadcast(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
