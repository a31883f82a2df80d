"""The online floor: bytes become verdicts. `service.app.create_app` is its door."""
