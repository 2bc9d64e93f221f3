package main

// serviceWorkloads are run in this order: later ones use what earlier ones
// found, such as the rate that sends sustain.
var serviceWorkloads = []workload{
	{"send", "one message a call, durable, beside an empty handler (wrk)", sends},
	{"open-loop", "sends at a fixed rate, whatever the answers do (vegeta)", openLoops},
	{"batch", "many messages a call, beside Pebble alone with the same", batches},
	{"broadcast", "one message to many", broadcasts},
	{"take", "ten at a time, until the queues are empty", takes},
	{"tombstones", "ten at a time from a queue of which many were taken before", tombstones},
	{"lease", "ten at a time under a lease, acknowledged, beside single sends", leases},
	{"wake-up", "from a send to the end of the answer of who waits for it", wakeUps},
	{"mixed", "four sends to one take of ten", mixed},
	{"drain", "to a Django that answers at once, and one that takes 20 ms", drains},
	{"idle", "memory and descriptors with idle connections, and what others notice", idles},
	{"stored", "start after kill -9, disk and cost, by how much is stored", stored},
}

// comparisons compare two builds of the service.
var comparisons = []workload{
	{"send", "one message a call, durable, by two builds (wrk)", compareSends},
	{"batch", "a thousand messages a call, by two builds", compareBatches},
	{"take", "ten at a time, by two builds", compareTakes},
}
