"""What the state client promises, on every footing that Nearhive can live on."""
