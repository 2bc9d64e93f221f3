package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestEndToEndIntoARealDjango sends over HTTP and checks that every message is in Django
// once and in order, through a restart of Django, a kill -9 of the service and a period of
// 503s. A message for an unknown conversation becomes a dead letter and blocks no other.
func TestEndToEndIntoARealDjango(t *testing.T) {
	d := startDjango(t)
	s := startService(t, "DJANGO_API_URL="+d.url(), "PERSIST_LINGER=20ms", "PERSIST_MAX_BACKOFF=500ms", "PERSIST_BATCH_SIZE=20")
	var sent []string
	send := func(n int) {
		t.Helper()
		for range n {
			text := "message " + strconv.Itoa(len(sent))
			s.send(t, 7, text)
			sent = append(sent, text)
		}
	}
	check := func(when string) {
		t.Helper()
		if got := d.waitRows(t, len(sent)); !slices.Equal(got, sent) {
			t.Fatalf("%s: rows %v, sent %v", when, got, sent)
		}
	}

	send(30)
	check("at first")

	d.kill()
	send(30)
	d.run(t)
	check("after a restart of Django")

	send(30)
	s.kill() // as kill -9
	s.start(t)
	send(10)
	check("after a kill of the service")

	d.outage(t, true)
	send(30)
	time.Sleep(300 * time.Millisecond)
	d.outage(t, false)
	check("after 503s")

	lost := s.send(t, 4242, "nowhere to go")
	send(5)
	check("beside an unknown conversation")
	eventually(t, 20*time.Second, "there is a dead letter", func() bool {
		_, answer := s.get("/api/dead-letters")
		return answer["total"] == 1.0
	})
	status, answer := s.get("/api/dead-letters/refused-" + lost)
	if status != http.StatusOK || !strings.Contains(fmt.Sprint(answer), "Conversation matching query does not exist") {
		t.Errorf("dead letter: %d %v", status, answer)
	}

	status, _ = s.post("/api/messages/broadcast", `{"message":{"sender_id":1,"text":"to all","message_type":"system"},"user_ids":[1,2,"x"]}`)
	if status != http.StatusOK {
		t.Fatalf("broadcast: %d", status)
	}
	sent = append(sent, "to all", "to all", "to all")
	check("after a broadcast")
	status, _ = s.post("/api/messages/send", `{"conversation_id":7,"sender_id":1,"receiver_id":789,"text":"known","persist":false}`)
	if status != http.StatusOK {
		t.Fatalf("send: %d", status)
	}
	send(1)
	check("with a message that Django has already")

	_, answer = s.get("/api/messages/queue/789?max_count=1000")
	if got := answer["count"].(float64); int(got) != len(sent)+2-3 {
		t.Errorf("the queue returned %v messages, want %d", got, len(sent)+2-3)
	}
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
