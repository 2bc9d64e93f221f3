package comparisons

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// pgbenchScript is one send; the body is a variable on the command line.
var pgbenchScript = fmt.Sprintf(`\set user random(0, %d)
INSERT INTO messages (user_id, priority, body) VALUES (:user, mod(:user, %d), :body);
`, traffic.Users-1, len(traffic.Priorities))

// Load implements [Loader] with pgbench, for single sends. pgbench counts whole
// seconds, including the time in which the clients connect; a first run with one
// transaction per client measures that time.
func (p *postgres) Load(clients, pipeline int, d time.Duration) (measure.Sample, string, error) {
	if pipeline != 1 {
		return measure.Sample{}, "", fmt.Errorf("pgbench with %d messages per call: %w", pipeline, ErrUnsupported)
	}
	path, err := find("pgbench", postgresPackage, postgresDirs()...)
	if err != nil {
		return measure.Sample{}, "", err
	}
	dir, err := os.MkdirTemp(p.dir, "pgbench-")
	if err != nil {
		return measure.Sample{}, "", err
	}
	detail := fmt.Sprintf("pgbench -M prepared -c %d -j 2, one INSERT per transaction", clients)
	began := time.Now()
	sample, err := p.pgbench(path, dir, clients, "-t", "1")
	if err == nil {
		sample, err = p.pgbench(path, dir, clients, "-T", fmt.Sprint(math.Ceil((time.Since(began) + d).Seconds())))
	}
	return sample, detail, errors.Join(err, os.RemoveAll(dir))
}

// pgbench runs pgbench for a number of transactions or seconds. The returned rate
// excludes the time in which the clients connect.
func (p *postgres) pgbench(path, dir string, clients int, howLong ...string) (measure.Sample, error) {
	script := filepath.Join(dir, "send.sql")
	if err := os.WriteFile(script, []byte(pgbenchScript), 0o600); err != nil {
		return measure.Sample{}, err
	}
	logs, err := os.MkdirTemp(dir, "logs-")
	if err != nil {
		return measure.Sample{}, err
	}
	out, err := run(command{path: path, dir: logs, env: []string{"PGPASSWORD=" + p.password, "PGDATABASE=postgres"}, args: append([]string{
		"-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", postgresUser, "-n", "-M", "prepared", "-f", script,
		"-D", "body=" + string(traffic.Message(1234)), "-c", strconv.Itoa(clients), "-j", "2", "-l",
	}, howLong...)})
	if err != nil {
		return measure.Sample{}, err
	}
	var s measure.Sample
	for line := range strings.Lines(string(out)) {
		_, _ = fmt.Sscanf(line, "tps = %f (without initial connection time)", &s.Value) // another line leaves the value unchanged
	}
	if s.Value == 0 {
		return s, fmt.Errorf("pgbench printed no rate: %s", out)
	}
	s.Latency, err = pgbenchLatency(filepath.Join(logs, "pgbench_log.*"))
	return s, err
}

// pgbenchLatency reads the logs: the third field of a line is the duration of a
// transaction in microseconds.
func pgbenchLatency(pattern string) (*measure.Latency, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	latencies := measure.NewLatencies()
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 3 {
				continue
			}
			us, err := strconv.ParseInt(fields[2], 10, 64)
			if err != nil {
				return nil, err
			}
			latencies.Record(time.Duration(us) * time.Microsecond)
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return latencies.Summary(), nil
}
