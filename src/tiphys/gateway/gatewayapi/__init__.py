"""The Gateway API: Gateways and HTTPRoutes -> listeners with routes, and what their statuses say. All of it pure."""
