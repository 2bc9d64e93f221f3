package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// django is a running backend of testdata/django.
type django struct {
	*program
	dir, port, python string
}

func startDjango(t *testing.T) *django {
	t.Helper()
	python := os.Getenv("MESSAGING_TEST_PYTHON")
	if python == "" {
		out, err := exec.Command("sh", "../../testdata/python.sh").Output()
		if err != nil {
			t.Fatalf("no Python with Django REST framework: run make test, which installs it (%v)", err)
		}
		python = strings.TrimSpace(string(out))
	}
	d := &django{dir: t.TempDir(), port: freePort(t), python: python}
	if p := start(t, d.env(), python, "../../testdata/django/manage.py", "migrate", "--verbosity", "0"); p.wait() != 0 {
		t.Fatalf("migrate: %s", p.log)
	}
	d.run(t)
	return d
}

func (d *django) env() []string {
	return []string{"BACKEND_DIR=" + d.dir, "PYTHONDONTWRITEBYTECODE=1"}
}

func (d *django) url() string { return "http://127.0.0.1:" + d.port }

func (d *django) run(t *testing.T) {
	t.Helper()
	d.program = start(t, d.env(), d.python, "../../testdata/django/manage.py", "runserver", "--noreload", "127.0.0.1:"+d.port)
	eventually(t, 30*time.Second, "Django answers", func() bool {
		_, err := d.rows()
		return err == nil
	})
}

type row struct {
	UUID     string `json:"uuid"`
	Sequence uint64 `json:"sequence"`
	Text     string `json:"text"`
	Receiver string `json:"receiver_id"`
}

func (d *django) rows() (rows []row, err error) {
	response, err := http.Get(d.url() + "/rows/")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return rows, json.NewDecoder(response.Body).Decode(&rows)
}

func (d *django) outage(t *testing.T, on bool) {
	t.Helper()
	flag := filepath.Join(d.dir, "outage")
	if !on {
		if err := os.Remove(flag); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitRows waits until Django has n rows and returns their texts.
func (d *django) waitRows(t *testing.T, n int) []string {
	t.Helper()
	var rows []row
	eventually(t, 40*time.Second, fmt.Sprintf("Django has %d rows", n), func() bool {
		rows, _ = d.rows()
		return len(rows) >= n
	})
	if len(rows) != n {
		t.Fatalf("%d rows, want %d", len(rows), n)
	}
	var list []string
	for _, r := range rows {
		list = append(list, r.Text)
	}
	return list
}

// shell runs a line of Python in Django.
func (d *django) shell(t *testing.T, line string) {
	t.Helper()
	if p := start(t, d.env(), d.python, "../../testdata/django/manage.py", "shell", "-c", line); p.wait() != 0 {
		t.Fatalf("django shell: %s", p.log)
	}
}
