// Command format1 creates test data for upgrades from format 1: a data directory, and the
// list of its contents (expected.json). It uses a program that writes that format:
//
//	git worktree add --detach /tmp/format1 153d469
//	(cd /tmp/format1 && go build -o /tmp/format1-program ./cmd/messaging)
//	go run ./testdata/format1 -program /tmp/format1-program
//
// With -check it unpacks the stored data directory, runs the program on it, and compares
// the responses with expected.json. So it shows that a later program reads the same data.
// It ignores members that the later program has added to responses, and idempotency keys
// that have expired. A test of cmd/messaging runs it.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stayafrica/messaging/bench/archive"
)

func main() {
	path := flag.String("program", "", "the built program")
	dir := flag.String("dir", "testdata/format1", "where store.tar.gz and expected.json are")
	check := flag.Bool("check", false, "compare what is there with what the program shows")
	flag.Parse()
	if err := run(*path, *dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path, dir string, check bool) error {
	if path == "" {
		return fmt.Errorf("-program is missing")
	}
	work, err := os.MkdirTemp("", "format1-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	packed, list := filepath.Join(dir, "store.tar.gz"), filepath.Join(dir, "expected.json")
	if !check {
		if err := makeStore(path, filepath.Join(work, "made")); err != nil {
			return err
		}
		if err := pack(filepath.Join(work, "made"), packed); err != nil {
			return err
		}
	}
	if err := archive.Unpack(packed, filepath.Join(work, "data")); err != nil {
		return err
	}
	keyed := true
	if check {
		if keyed, err = keysLast(list); err != nil {
			return err
		}
	}
	seen, err := observe(path, filepath.Join(work, "data"), keyed)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(seen, "", " ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if !check {
		return os.WriteFile(list, text, 0o644)
	}
	want, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var over []string // members that are not compared
	if !keyed {
		over = []string{"keyed", "keyed_until"}
	}
	if differences, err := compare(want, text, over); err != nil || len(differences) > 0 {
		return errors.Join(fmt.Errorf("the program shows something else:\n%s", strings.Join(differences, "\n")), err)
	}
	fmt.Println("the program shows what expected.json says")
	return nil
}

// keysLast says whether the store still knows its idempotency keys: they last for 30
// days at most.
func keysLast(list string) (bool, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return false, err
	}
	var o observed
	err = json.Unmarshal(text, &o)
	return time.Now().Before(o.KeyedUntil), err
}
