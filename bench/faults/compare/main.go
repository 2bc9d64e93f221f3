// Command compare runs the fault tests (bench/faults) against two builds of the
// program: `make faults BASE=<rev>`. It prints a line per test. A test that passes on
// the base demonstrates no fault, and a test that fails on this tree shows that the
// fault remains. Either makes the exit status 1.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

const (
	exitDiffers = 1
	exitUsage   = 2
)

func main() {
	base := flag.String("base", "", "the revision to compare with")
	pattern := flag.String("run", "", "run only tests that match")
	verbose := flag.Bool("v", false, "print the failures on the base too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, os.Stdout, *base, *pattern, *verbose)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

var (
	errNoRevision = errors.New("no such revision")
	errNoTests    = errors.New("the tests did not run")
)

// run builds both programs, runs the tests against each, and prints the comparison.
func run(ctx context.Context, w io.Writer, base, pattern string, verbose bool) (status int, err error) {
	revision, err := output(ctx, ".", "git", "rev-parse", "--verify", "--quiet", base+"^{commit}")
	if base == "" || err != nil {
		return exitUsage, fmt.Errorf("%w: %q; make faults BASE=<rev>", errNoRevision, base)
	}
	dir, err := os.MkdirTemp("", "messaging-faults-")
	if err != nil {
		return exitDiffers, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	old, this := filepath.Join(dir, "base"), filepath.Join(dir, "this")
	if err := buildRevision(ctx, string(revision), filepath.Join(dir, "tree"), old); err != nil {
		return exitDiffers, err
	}
	if err := build(ctx, ".", this); err != nil {
		return exitDiffers, err
	}
	results := make([]map[string]*result, 0, 2)
	for _, program := range []string{old, this} {
		fmt.Fprintf(w, "running the tests against %s\n", filepath.Base(program))
		r, err := test(ctx, program, pattern)
		if err != nil {
			return exitDiffers, err
		}
		results = append(results, r)
	}
	if !report(w, results[0], results[1], verbose) {
		return exitDiffers, nil
	}
	return 0, nil
}

// buildRevision builds the program of a revision in a temporary worktree.
func buildRevision(ctx context.Context, revision, tree, path string) (err error) {
	if _, err := output(ctx, ".", "git", "worktree", "add", "--quiet", "--detach", tree, revision); err != nil {
		return err
	}
	defer func() {
		_, removed := output(context.WithoutCancel(ctx), ".", "git", "worktree", "remove", "--force", tree)
		err = errors.Join(err, removed)
	}()
	return build(ctx, tree, path)
}

func build(ctx context.Context, dir, path string) error {
	_, err := output(ctx, dir, "go", "build", "-trimpath", "-o", path, "./cmd/messaging")
	return err
}

// test runs the tests against a program. Failing tests are not an error.
func test(ctx context.Context, program, pattern string) (map[string]*result, error) {
	command := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout", "10m", "-run", pattern, "./bench/faults")
	command.Env = append(os.Environ(), "FAULTS_PROGRAM="+program)
	var failed bytes.Buffer
	command.Stderr = &failed
	out, err := command.Output()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ctx.Err() != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	results, err := parse(out)
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("%w:\n%s%s", errNoTests, out, failed.String())
	}
	return results, nil
}

// output runs a command in a directory and returns its output without the last line
// feed.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	var failed bytes.Buffer
	command.Stderr = &failed
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %v: %w\n%s", name, args, err, failed.String())
	}
	return bytes.TrimSuffix(out, []byte("\n")), nil
}
