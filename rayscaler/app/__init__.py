"""Assembly only: builds everything, hands every door in, creates every long-lived task and names it."""
