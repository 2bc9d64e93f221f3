package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// jobShown is a job as the service returns it.
type jobShown struct {
	ID         string  `json:"id"`
	Kind       string  `json:"kind"`
	State      string  `json:"state"`
	Done       uint64  `json:"done"`
	Total      uint64  `json:"total"`
	Failed     uint64  `json:"failed"`
	ETA        *int64  `json:"eta_seconds"`
	Error      *string `json:"error"`
	CreatedAt  string  `json:"created_at"`
	FinishedAt string  `json:"finished_at"`
}

func (j *jobShown) running() bool { return j.State == "running" }

// estimate returns the remaining time for output.
func (j *jobShown) estimate() string {
	if j.ETA == nil {
		return "-"
	}
	return (time.Duration(*j.ETA) * time.Second).String()
}

func (j *jobShown) reason() string {
	if j.Error == nil {
		return ""
	}
	return *j.Error
}

// following holds the flag that follows a job.
type following struct {
	Follow bool `negatable:"" help:"Follow the job to its end; exit status 1 unless it is done and nothing failed."`
}

// startJob posts a request and prints the job, or follows it.
func startJob(std *stdio, r *remote, path string, request map[string]any, follow bool) error {
	body, err := json.Marshal(request)
	if err != nil {
		return usagef("the request cannot be written as JSON: it must be UTF-8")
	}
	answer, err := r.call(http.MethodPost, path, body)
	if err != nil {
		return err
	}
	var said struct {
		Job jobShown `json:"job"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return r.notOurs()
	}
	if follow {
		return followJob(std, r, said.Job.ID)
	}
	if r.JSON {
		return printJSON(std, answer)
	}
	_, err = fmt.Fprintf(std.out, "started job %s (watch it with: messaging jobs show --follow %s)\n", said.Job.ID, said.Job.ID)
	return err
}

// Intervals of following a job. On a terminal the bar is redrawn every followInterval,
// elsewhere a line is printed every followLines.
const (
	followInterval = 250 * time.Millisecond
	followLines    = 5 * time.Second
)

// followJob prints the progress of a job until it ends.
func followJob(std *stdio, r *remote, id string) error {
	shown := time.Time{}
	for {
		var said struct {
			Job jobShown `json:"job"`
		}
		answer, err := r.get("/api/jobs/"+url.PathEscape(id), &said)
		if err != nil {
			return err
		}
		j := &said.Job
		switch {
		case r.JSON && !j.running():
			return jobStatus(j, printJSON(std, answer))
		case r.JSON:
		case std.terminal:
			fmt.Fprintf(std.out, "\r\x1b[K%s", bar(j))
		case !j.running() || time.Since(shown) >= followLines:
			shown = time.Now()
			fmt.Fprintln(std.out, bar(j))
		}
		if !j.running() {
			if std.terminal {
				fmt.Fprintln(std.out)
			}
			return jobStatus(j, nil)
		}
		time.Sleep(followInterval)
	}
}

// jobStatus returns errQuiet, for exit status 1, if a job is not done or has failures.
func jobStatus(j *jobShown, err error) error {
	if err == nil && (j.State != "done" || j.Failed > 0) {
		return errQuiet
	}
	return err
}

// bar returns a job's progress as one line.
func bar(j *jobShown) string {
	const width = 30
	full := width
	if j.Total > 0 {
		full = int(min(j.Done, j.Total) * width / j.Total) //nolint:gosec // at most width
	}
	line := fmt.Sprintf("%s [%s%s] %d of %d", j.Kind, strings.Repeat("#", full), strings.Repeat(".", width-full), j.Done, j.Total)
	if j.Failed > 0 {
		line += fmt.Sprintf(", %d failed", j.Failed)
	}
	if j.running() {
		return line + ", " + j.estimate() + " left"
	}
	line += ", " + j.State
	if reason := j.reason(); reason != "" {
		line += ": " + printable(shorten(reason, 100))
	}
	return line
}

type replayCmd struct {
	remote       `embed:""`
	following    `embed:""`
	FromSequence *int64 `help:"First sequence; 1 is the beginning of the log."`
	ToSequence   *int64 `help:"Last sequence (default: the end of the log)."`
	FromTime     string `placeholder:"TIME" help:"Earliest time of creation (RFC 3339)."`
	ToTime       string `placeholder:"TIME" help:"Latest time of creation (RFC 3339)."`
	Conversation string `help:"Only this conversation."`
	User         string `help:"Only this receiver."`
	Rate         *int64 `help:"Maximum number of messages per second (default 1000)."`
}

// Run starts a replay.
func (c *replayCmd) Run(std *stdio) error {
	request := make(map[string]any)
	for name, n := range map[string]*int64{"from_sequence": c.FromSequence, "to_sequence": c.ToSequence, "rate": c.Rate} {
		if n != nil {
			request[name] = *n
		}
	}
	for name, text := range map[string]string{"from_time": c.FromTime, "to_time": c.ToTime} {
		if text != "" {
			request[name] = text
		}
	}
	for name, text := range map[string]string{"conversation_id": c.Conversation, "user_id": c.User} {
		if text != "" {
			request[name] = id(text)
		}
	}
	return startJob(std, &c.remote, "/api/replay", request, c.Follow)
}

type deadRedriveCmd struct {
	remote    `embed:""`
	following `embed:""`
	IDs       []string `arg:"" optional:"" name:"id" help:"Ids of dead letters."`
	Reason    string   `help:"All dead letters with this reason."`
	Kind      string   `help:"Only this kind: refused or undeliverable (with --reason or --all)."`
	All       bool     `negatable:"" help:"All dead letters."`
}

// Run starts a redrive.
func (c *deadRedriveCmd) Run(std *stdio) error {
	request := make(map[string]any)
	if len(c.IDs) > 0 {
		request["ids"] = c.IDs
	}
	if c.Reason != "" {
		request["reason"] = c.Reason
	}
	if c.Kind != "" {
		request["kind"] = c.Kind
	}
	if c.All {
		request["all"] = true
	}
	return startJob(std, &c.remote, "/api/dead-letters/redrive", request, c.Follow)
}

type deadDropCmd struct {
	remote `embed:""`
	IDs    []string `arg:"" name:"id" help:"Ids of dead letters."`
}

// Run deletes dead letters.
func (c *deadDropCmd) Run(std *stdio) error {
	for _, id := range c.IDs {
		answer, err := c.call(http.MethodDelete, "/api/dead-letters/"+url.PathEscape(id), nil)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if c.JSON {
			err = printJSON(std, answer)
		} else {
			_, err = fmt.Fprintln(std.out, "dropped", id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type jobsCmd struct {
	List   jobsListCmd   `cmd:"" default:"withargs" help:"List jobs, the newest first."`
	Show   jobsShowCmd   `cmd:"" help:"Show one job."`
	Cancel jobsCancelCmd `cmd:"" help:"Cancel a job; a job that has ended is forgotten."`
}

type jobsListCmd struct {
	remote `embed:""`
}

// Run lists jobs.
func (c *jobsListCmd) Run(std *stdio) error {
	var said struct {
		Jobs []jobShown `json:"jobs"`
	}
	answer, err := c.get("/api/jobs", &said)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	return jobTable(std, said.Jobs)
}

func jobTable(std *stdio, jobs []jobShown) error {
	t := newTable(std, "ID", "KIND", "STATE", "DONE", "TOTAL", "FAILED", "LEFT", "CREATED", "ERROR")
	for i := range jobs {
		j := &jobs[i]
		t.row(j.ID, j.Kind, j.State, strconv.FormatUint(j.Done, 10), strconv.FormatUint(j.Total, 10),
			strconv.FormatUint(j.Failed, 10), j.estimate(), j.CreatedAt, shorten(j.reason(), 60))
	}
	return t.flush()
}

type jobsShowCmd struct {
	remote    `embed:""`
	following `embed:""`
	ID        string `arg:"" help:"Id of the job."`
}

// Run shows one job.
func (c *jobsShowCmd) Run(std *stdio) error {
	if c.Follow {
		return followJob(std, &c.remote, c.ID)
	}
	return showJob(std, &c.remote, http.MethodGet, c.ID)
}

type jobsCancelCmd struct {
	remote `embed:""`
	ID     string `arg:"" help:"Id of the job."`
}

// Run cancels a job.
func (c *jobsCancelCmd) Run(std *stdio) error {
	return showJob(std, &c.remote, http.MethodDelete, c.ID)
}

func showJob(std *stdio, r *remote, method, id string) error {
	answer, err := r.call(method, "/api/jobs/"+url.PathEscape(id), nil)
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(std, answer)
	}
	var said struct {
		Job jobShown `json:"job"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return r.notOurs()
	}
	return jobTable(std, []jobShown{said.Job})
}
