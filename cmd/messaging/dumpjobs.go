package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// dumpedJob is the drain or a job, for output.
type dumpedJob struct {
	Kind     string              `json:"kind"`
	ID       string              `json:"id,omitzero"`
	State    string              `json:"state,omitzero"`
	Position *messaging.Position `json:"position,omitzero"` // only of the drain
	Done     uint64              `json:"done,omitzero"`
	Total    uint64              `json:"total,omitzero"`
	Failed   uint64              `json:"failed,omitzero"`
	Time     string              `json:"created_at,omitzero"`
	Note     string              `json:"note,omitzero"`
	Body     jsontext.Value      `json:"body,omitzero"` // the stored record
}

func (d *dumpedJob) progress() string {
	switch {
	case d.Position == nil:
		return fmt.Sprintf("%d of %d, %d failed", d.Done, d.Total, d.Failed)
	case d.Position.Sequence == 0:
		return "at the first message"
	case d.Position.Receiver > 0:
		return fmt.Sprintf("at %d, receiver %d", d.Position.Sequence, d.Position.Receiver)
	}
	return "at " + strconv.FormatUint(d.Position.Sequence, 10)
}

// jobs prints the position of the drain, and the jobs in the order of their ids.
func (p *dumpPrinter) jobs(store *storage.Store) error {
	position, err := store.Position()
	if err != nil {
		return err
	}
	jobs, err := store.Jobs()
	if err != nil {
		return err
	}
	list := []dumpedJob{{Kind: "drain", Position: &position}}
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		list = append(list, dumpJob(id, jobs[id].Record))
	}
	if !p.json {
		p.table.row("KIND", "ID", "STATE", "PROGRESS", "TIME", "NOTE", "RECORD")
	}
	for i := range list {
		d := &list[i]
		if !p.json {
			p.table.row(d.Kind, d.ID, d.State, d.progress(), d.Time, d.Note, shorten(string(d.Body), shownBody))
			continue
		}
		if err := printLine(p.std, d); err != nil {
			return err
		}
	}
	return nil
}

// dumpJob decodes the record of a job. A record that is not JSON is printed as a string.
func dumpJob(id string, record []byte) dumpedJob {
	var job messaging.Job
	if err := json.Unmarshal(record, &job); err != nil {
		text, _ := jsontext.AppendQuote(nil, strconv.QuoteToASCII(string(record))) // it is UTF-8
		return dumpedJob{Kind: "damaged", ID: id, Note: "the record is not a job: " + err.Error(), Body: text}
	}
	return dumpedJob{
		Kind: string(job.Kind), ID: id, State: string(job.State), Done: job.Done, Total: job.Total, Failed: job.Failed,
		Time: timestamp(job.CreatedAt), Note: job.Error, Body: record,
	}
}

// printLine prints one line of JSON.
func printLine(std *stdio, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print a line: %w", err)
	}
	_, err = fmt.Fprintf(std.out, "%s\n", line)
	return err
}
