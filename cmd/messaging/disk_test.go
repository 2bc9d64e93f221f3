package main_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFullDiskAtTheStartIsStatus5(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	status, _, errs := messaging(t, []string{"HTTP_PORT=0", "DATA_DIR=" + filepath.Join(dir, "data"), "DJANGO_API_URL=off"}, "serve")
	if status != 5 || strings.Count(strings.TrimSpace(errs), "\n") != 0 || !strings.Contains(errs, "free some space") {
		t.Errorf("status %d, %s", status, errs)
	}
}

func TestSendsAreRefusedBelowTheFreeSpaceThatIsWanted(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	port, dir := freePort(t), t.TempDir()
	url := "http://127.0.0.1:" + port
	p := start(t, []string{"HTTP_PORT=" + port, "DATA_DIR=" + dir, "DJANGO_API_URL=off", "DISK_MIN_FREE=8000000TiB"}, path, "serve")
	eventually(t, 20*time.Second, "the service has opened", func() bool {
		status, _ := call(http.MethodGet, url+"/api/stats", "")
		return status == http.StatusOK
	})
	status, answer := call(http.MethodPost, url+"/api/messages/send", `{"conversation_id":1,"sender_id":1,"receiver_id":1,"text":"x"}`)
	if status != http.StatusInsufficientStorage || answer["code"] != "disk_full" {
		t.Errorf("send: %d %v", status, answer)
	}
	if status, answer = call(http.MethodGet, url+"/health/ready", ""); status != http.StatusServiceUnavailable || answer["disk"] != false {
		t.Errorf("readiness: %d %v", status, answer)
	}
	if status, answer = call(http.MethodGet, url+"/api/messages/queue/1", ""); status != http.StatusOK || answer["count"] != 0.0 {
		t.Errorf("the queue: %d %v", status, answer)
	}
	if names := spareLogs(t, dir); len(names) > 0 {
		t.Errorf("%v were created without free space", names)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestSpareLogsAreMadeWhereThereIsRoom(t *testing.T) {
	s := startService(t)
	dir := strings.TrimPrefix(s.env[1], "DATA_DIR=")
	eventually(t, 20*time.Second, "there is a spare log", func() bool { return len(spareLogs(t, dir)) > 0 })
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if names := spareLogs(t, dir); len(names) > 0 {
		t.Errorf("the stop left %v", names)
	}
}

func spareLogs(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "messages", "spare-*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestWhatIsWrittenIsPrivate(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	s := &service{url: "http://127.0.0.1:" + freePort(t)}
	env := []string{"HTTP_PORT=" + s.url[strings.LastIndexByte(s.url, ':')+1:], "DATA_DIR=" + dir, "DJANGO_API_URL=off", "DISK_MIN_FREE=1MiB"}
	s.program = start(t, env, "sh", "-c", "umask 0; exec "+path+" serve")
	eventually(t, 20*time.Second, "the service is ready", func() bool {
		status, _ := s.get("/health/ready")
		return status == http.StatusOK
	})
	s.send(t, 1, "x")
	found := 0
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		found++
		want := os.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has the mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || found < 5 {
		t.Errorf("%d files, %v", found, err)
	}
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
