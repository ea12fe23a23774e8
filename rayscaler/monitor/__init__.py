"""The process beside a Ray head: reads the GCS, reports to the service, carries out its commands. Never imports ray."""
