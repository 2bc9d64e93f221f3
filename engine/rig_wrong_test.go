package engine_test

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine/enginetest"
)

// wrongQueues are engines with one fault each, which the rigs must find.
var wrongQueues = map[string]func(e enginetest.Engine) enginetest.Engine{
	"delivers twice": func(e enginetest.Engine) enginetest.Engine { return &twice{Engine: e} },
	"loses":          func(e enginetest.Engine) enginetest.Engine { return &losing{Engine: e} },
	"reorders":       func(e enginetest.Engine) enginetest.Engine { return &reordering{Engine: e} },
}

// twice sometimes delivers a message again.
type twice struct {
	enginetest.Engine

	mu   sync.Mutex
	last map[messaging.UserID]messaging.Message
	n    int
}

func (w *twice) Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Delivery, error) {
	h, err := w.Engine.Take(ctx, user, o)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = make(map[messaging.UserID]messaging.Message)
	}
	w.n++
	if again, ok := w.last[user]; ok && o.Lease == 0 && len(h.Messages) < o.Limit && w.n%3 == 0 {
		h.Messages = append([]messaging.Message{again}, h.Messages...)
	} else if len(h.Messages) > 0 && o.Lease == 0 {
		w.last[user] = h.Messages[0]
	}
	return h, err
}

// losing loses a message of every fifth call that sends.
type losing struct {
	enginetest.Engine

	n atomic.Int64
}

func (w *losing) lost(user messaging.UserID) error {
	if w.n.Add(1)%5 != 0 {
		return nil
	}
	h, err := w.Take(context.Background(), user, messaging.TakeOptions{Limit: 1})
	h.Finish(true)
	return err
}

func (w *losing) Send(d messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error) {
	receipt, err := w.Engine.Send(d, o)
	if err == nil {
		err = w.lost(d.Receiver)
	}
	return receipt, err
}

func (w *losing) SendAll(drafts []messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error) {
	receipt, err := w.Engine.SendAll(drafts, o)
	if err == nil {
		err = w.lost(drafts[0].Receiver)
	}
	return receipt, err
}

// reordering delivers two messages in the wrong order.
type reordering struct{ enginetest.Engine }

func (w *reordering) Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Delivery, error) {
	h, err := w.Engine.Take(ctx, user, o)
	if len(h.Messages) > 1 {
		h.Messages[0], h.Messages[1] = h.Messages[1], h.Messages[0]
	}
	return h, err
}
