package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// made returns the commands that make would run.
func made(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("make", append([]string{"-s", "-n", "-C", "../.."}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("make %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestVersionIsThatOfTheBuild(t *testing.T) {
	for target, want := range map[string]string{
		"build": "-X main.release=v1.2.3", "docker": "--build-arg VERSION=v1.2.3",
	} {
		if got := made(t, target, "VERSION=v1.2.3"); !strings.Contains(got, want) {
			t.Errorf("make %s runs %s, which lacks %s", target, got, want)
		}
	}
	for file, want := range map[string]string{"Dockerfile": `-X main.release=${VERSION}`, "docker-compose.yml": "VERSION: ${VERSION:-devel}"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s (%v)", file, want, err)
		}
	}
	path := filepath.Join(t.TempDir(), "messaging")
	if out, err := exec.Command("go", "build", "-ldflags", "-X main.release=v1.2.3", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(path, "version").Output(); err != nil || string(out) != "messaging v1.2.3\n" {
		t.Errorf("%q %v", out, err)
	}
}

func TestMakeRunDrainsIntoTheDjangoThatIsConfigured(t *testing.T) {
	binaryPath, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binaryPath, filepath.Join(dir, "bin", "messaging")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte("django_api_url: http://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	makefile, err := filepath.Abs("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, env, backend string }{
		{"nothing is given", "X=y", `"backend":"off"`},
		{"by a file", "MESSAGING_CONFIG=" + file, `"backend":"http://127.0.0.1:1/`},
		{"by the environment", "DJANGO_API_URL=http://127.0.0.1:2", `"backend":"http://127.0.0.1:2/`},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			// With -o nothing is built: the binary exists.
			p := start(t, []string{"HTTP_PORT=" + port, "DISK_MIN_FREE=1MiB", c.env}, "make", "-C", dir, "-f", makefile, "-o", "build", "run")
			eventually(t, 20*time.Second, "the service is ready", func() bool {
				status, _ := call(http.MethodGet, "http://127.0.0.1:"+port+"/health/ready", "")
				return status == http.StatusOK
			})
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			p.wait()
			if !strings.Contains(p.log.String(), c.backend) {
				t.Errorf("no %s in %s", c.backend, p.log)
			}
			if _, err := os.Stat(filepath.Join(dir, "data")); err != nil {
				t.Errorf("it does not keep its data in ./data: %v", err)
			}
		})
	}
}
