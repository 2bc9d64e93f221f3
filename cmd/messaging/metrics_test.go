package main_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// scrape returns the text of /metrics.
func (s *service) scrape(t *testing.T) string {
	t.Helper()
	response, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// metric returns the value of a series as it is written, or "".
func metric(text, series string) string {
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	return found[1]
}

func TestMetricsSayWhatTheyAre(t *testing.T) {
	s := startService(t)
	s.send(t, 1, "x")
	text := s.scrape(t)
	deprecated := make(map[string]string)
	for line := range strings.Lines(text) {
		after, ok := strings.CutPrefix(line, "# HELP ")
		if !ok {
			continue
		}
		name, help, _ := strings.Cut(strings.TrimSpace(after), " ")
		if len(help) < 20 || help == "No help is known." || !strings.HasSuffix(help, ".") {
			t.Errorf("the help of %s is %q", name, help)
		}
		if strings.HasPrefix(help, "Deprecated: ") {
			deprecated[name] = help
		}
		if strings.HasSuffix(name, "_ms") || strings.Contains(name, "_milliseconds") || (strings.HasSuffix(name, "_seconds") && !strings.Contains(help, "seconds")) {
			t.Errorf("the unit of %s is missing, or is not seconds: %q", name, help)
		}
	}
	renamed := map[string]string{
		"messaging_commit_messages": "messaging_commit_changes", "messaging_messages_retained_out_total": "messaging_messages_trimmed_total",
		"messaging_waiting_readers": "messaging_long_polls", "messaging_drain_waiting": "messaging_drain_stalled",
	}
	for old, name := range renamed {
		if !strings.HasPrefix(deprecated[old], "Deprecated: use "+name+",") {
			t.Errorf("the help of %s is %q, want that of a deprecated name of %s", old, deprecated[old], name)
		}
		if !strings.Contains(text, "# TYPE "+name+" ") {
			t.Errorf("no %s", name)
		}
		delete(deprecated, old)
	}
	if len(deprecated) != 0 {
		t.Errorf("these are deprecated too: %v", deprecated)
	}
	if a, b := metric(text, "messaging_commit_changes_count"), metric(text, "messaging_commit_messages_count"); a == "" || a != b {
		t.Errorf("%s commits under the new name, %s under the old one", a, b)
	}
	if !regexp.MustCompile(`(?m)^messaging_build_info\{version="[^"]+",revision="[^"]*",goversion="` + regexp.QuoteMeta(runtime.Version()) + `"\} 1$`).MatchString(text) {
		t.Errorf("no messaging_build_info in %s", text[:500])
	}
}

// A broadcast counts once for each receiver, both when it is accepted and when it is
// persisted, and both in one commit and staged.
func TestABroadcastCountsOnceForEachReceiver(t *testing.T) {
	backend := startStoring(t)
	s := startService(t, "DJANGO_API_URL="+backend.url)
	s.send(t, 1, "x")
	want := 1
	for _, receivers := range []int{4, 5000} {
		var users strings.Builder
		for i := range receivers {
			fmt.Fprintf(&users, `,"u%d"`, i)
		}
		status, answer := s.post("/api/messages/broadcast", `{"message":{"sender_id":1,"text":"all"},"user_ids":[`+users.String()[1:]+`]}`)
		if status != http.StatusOK {
			t.Fatalf("broadcast: %d %v", status, answer)
		}
		want += receivers
		eventually(t, 20*time.Second, "all are persisted", func() bool {
			_, stats := s.get("/api/stats")
			return stats["messages_persisted"] == float64(want)
		})
		_, stats := s.get("/api/stats")
		counters, _ := stats["counters"].(map[string]any)
		if stats["messages_processed"] != float64(want) || counters["messages_processed"] != float64(want) {
			t.Errorf("%v and %v are processed, want %d", stats["messages_processed"], counters["messages_processed"], want)
		}
		text := s.scrape(t)
		for _, series := range []string{"messaging_messages_accepted_total", "messaging_messages_persisted_total"} {
			if got := metric(text, series); got != fmt.Sprint(want) {
				t.Errorf("%s is %s, want %d", series, got, want)
			}
		}
	}
}
